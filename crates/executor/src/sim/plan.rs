//! Random skeletons and the dice they are thrown with.

use jiff::Timestamp;
use runbook_core::action::Effect;
use runbook_core::workflow::{OnExhausted, Phase};

use crate::machine::{Bone, Skeleton, UndoPlan};

/// SplitMix64: the same seed gives the same run on every platform and in every version.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }
    /// True in so many of a hundred throws.
    pub(crate) fn percent(&mut self, n: usize) -> bool {
        self.below(100) < n
    }
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Up to eight main steps, sometimes with a runbook used as a step among them, and handlers.
pub(crate) fn skeleton(dice: &mut Dice) -> Skeleton {
    let mut steps: Vec<Bone> = Vec::new();
    let main = 1 + dice.below(6);
    for n in 0..main {
        let needs = some_of(dice, 0, steps.len());
        steps.push(bone(dice, format!("s{n}"), needs, Phase::Main));
    }
    if dice.percent(25) {
        inner_runbook(dice, &mut steps);
    }
    for (phase, name) in [(Phase::OnFailure, "f"), (Phase::Finally, "z")] {
        let first = steps.len();
        for n in 0..dice.below(3) {
            let needs = some_of(dice, first, steps.len());
            steps.push(bone(dice, format!("{name}{n}"), needs, phase));
        }
    }
    let deadline = dice.percent(10).then(|| std::time::Duration::from_secs(40));
    Skeleton { steps, deadline }
}

fn inner_runbook(dice: &mut Dice, steps: &mut Vec<Bone>) {
    let begin = steps.len();
    let mut entry = Bone::plain("in/(begin)", some_of(dice, 0, begin));
    entry.calls = false;
    entry.conditional = dice.percent(50);
    steps.push(entry);
    for n in 0..2 {
        let mut inner = bone(dice, format!("in/s{n}"), vec![steps.len() - 1], Phase::Main);
        inner.within = Some(begin);
        steps.push(inner);
    }
    let mut exit = Bone::plain("in", vec![begin, begin + 1, begin + 2]);
    exit.calls = false;
    exit.within = Some(begin);
    steps.push(exit);
}

fn some_of(dice: &mut Dice, from: usize, to: usize) -> Vec<usize> {
    (from..to).filter(|_| dice.percent(40)).collect()
}

fn bone(dice: &mut Dice, path: String, needs: Vec<usize>, phase: Phase) -> Bone {
    let effects =
        [Effect::Read, Effect::Idempotent, Effect::Transactional, Effect::Keyed, Effect::Once, Effect::Once];
    let mut bone = Bone::plain(path, needs);
    bone.phase = phase;
    bone.effect = *dice.pick(&effects);
    bone.probe = bone.effect == Effect::Once && dice.percent(50);
    bone.conditional = dice.percent(15);
    bone.each = dice.percent(15).then(|| 1 + u32::try_from(dice.below(2)).unwrap_or(0));
    bone.asks = dice.percent(25);
    bone.attempts_max = 1 + u32::try_from(dice.below(3)).unwrap_or(0);
    bone.on_exhausted = if dice.percent(30) { OnExhausted::Fail } else { OnExhausted::Pause };
    bone.continue_on_error = dice.percent(10);
    bone.point_of_no_return = dice.percent(5);
    bone.undo = match dice.below(3) {
        0 => UndoPlan::Nothing,
        1 => UndoPlan::Keep("the author says so".to_owned()),
        _ => UndoPlan::Act,
    };
    bone
}
