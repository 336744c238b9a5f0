//! `cargo xtask bench restore`: the same dumps into fresh databases of the same server, by the product and by what people
//! do by hand. Whatever filled a database, what is in it afterwards is held to the source.

use std::fmt;
use std::process::Command;

use clap::Args;
use serde_json::Value;

use super::dataset::{self, DataSet};
use super::process::{Measured, measure};
use super::resume;
use super::server::{OWNER, Server};
use super::stats::{faster, median, paired, spread, table};
use super::world::{PREFIX, World};
use super::{Common, folder, order, product, shown};
use crate::shell::{Failure, say};

/// The database that is filled again and again.
pub(super) const TARGET: &str = "target";

/// How to measure restores.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Which ways, by commas: ours-plain, ours-archive, psql, j2, j4.
    #[arg(long, value_delimiter = ',', default_value = "ours-plain,psql,ours-archive,j4,j2", value_parser = arm)]
    arms: Vec<Arm>,
    /// How many connections ours loads over; by itself it decides that.
    #[arg(long)]
    jobs: Option<u32>,
    /// Also kill ours at 90 % of its time and measure how long the resume takes.
    #[arg(long)]
    resume: bool,
    /// Compare rows by checksum after every restore, not only in the first round.
    #[arg(long)]
    check_all: bool,
}

/// A way to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arm {
    OursPlain,
    OursArchive,
    Psql,
    PgRestore(u32),
}

fn arm(text: &str) -> Result<Arm, String> {
    match text {
        "ours-plain" => Ok(Arm::OursPlain),
        "ours-archive" => Ok(Arm::OursArchive),
        "psql" => Ok(Arm::Psql),
        _ => match text.strip_prefix('j').and_then(|jobs| jobs.parse().ok()) {
            Some(jobs) => Ok(Arm::PgRestore(jobs)),
            None => Err("one of ours-plain, ours-archive, psql, j2, j4".to_owned()),
        },
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OursPlain => f.write_str("ours, plain"),
            Self::OursArchive => f.write_str("ours, archive"),
            Self::Psql => f.write_str("gunzip | psql"),
            Self::PgRestore(jobs) => write!(f, "pg_restore -j{jobs}"),
        }
    }
}

/// Everything that a restore needs.
pub(super) struct Setting {
    pub(super) server: Server,
    pub(super) world: World,
    pub(super) set: DataSet,
    pub(super) plain: Value,
    pub(super) archive: Value,
}

impl Setting {
    /// Starts the servers and brings the dumps to the bucket.
    pub(super) fn new(common: &Common, jobs: Option<u32>) -> Result<Self, Failure> {
        let binary = product(common.binary.as_ref())?;
        let server = Server::start(&folder().join("postgres"))?;
        let set = DataSet::ensure(&folder().join("data"), common.shape(), &server)?;
        let world = World::start(binary, &folder().join("world"), common.rate.0)?;
        let plain = world.upload(&set.plain, "plain.sql.gz", !common.no_store_checksum)?;
        let archive = world.upload(&set.archive, "archive.dump", !common.no_store_checksum)?;
        world.write_environments(&server)?;
        let jobs = jobs.map(|jobs| format!("      jobs: {jobs}\n")).unwrap_or_default();
        for (name, backup) in [("plain", &plain), ("archive", &archive)] {
            let steps = format!(
                "  - id: database\n    uses: postgres.create_database\n    with: {{ server: \"{{{{ connections.server }}}}\", \
                 name: {TARGET}, template: template0 }}\n  - id: restore\n    uses: postgres.restore\n    with:\n      \
                 backup: {backup}\n      into: \"{{{{ steps.database.connection }}}}\"\n{jobs}"
            );
            world.write_runbook(name, &steps)?;
        }
        Ok(Self { server, world, set, plain, archive })
    }

    /// The command of one way; ours with a state directory of that name.
    fn command(&self, arm: Arm, state: &str) -> Result<Command, Failure> {
        let by_hand = |name: &str, then: &str| {
            let file = self.world.folder.join(name);
            let mut shell = Command::new("sh");
            shell.arg("-ec").arg(format!(
                "curl --config \"$CURL_CONFIG\" --output \"$FILE\" \"$URL\"\n\
                 createdb -T template0 \"$TARGET\"\n{then}\nrm \"$FILE\""
            ));
            shell.env("CURL_CONFIG", self.world.curl_config()).env("FILE", file);
            shell.env("URL", self.world.url(&format!("{PREFIX}/{name}"))).env("TARGET", TARGET);
            self.server.point(&mut shell, OWNER);
            shell
        };
        let ours = |name: &str| {
            let mut command = self.world.product(state)?;
            command.arg("run").arg(self.world.folder.join(format!("{name}.yaml"))).args(["--env", "bench"]);
            Ok(command)
        };
        match arm {
            Arm::OursPlain => ours("plain"),
            Arm::OursArchive => ours("archive"),
            Arm::Psql => Ok(by_hand(
                "plain.sql.gz",
                "gunzip -c \"$FILE\" | psql -X -q -v ON_ERROR_STOP=1 -d \"$TARGET\"",
            )),
            Arm::PgRestore(jobs) => {
                Ok(by_hand("archive.dump", &format!("pg_restore -e -j {jobs} -d \"$TARGET\" \"$FILE\"")))
            }
        }
    }

    /// One restore into a new database, which each way makes for itself; what it took, and CPU seconds of the server.
    pub(super) fn restore(&self, arm: Arm, state: &str) -> Result<(Measured, f64), Failure> {
        self.server.gone(TARGET)?;
        let before = self.server.cpu();
        let measured = measure(&mut self.command(arm, state)?).map_err(|error| self.world.with_log(error))?;
        Ok((measured, self.server.cpu() - before))
    }

    /// Whether the target is what the source was: the schema, the rows, or at least how many they are.
    pub(super) fn check(&self, rows_too: bool) -> Result<(), Failure> {
        let schema = dataset::schema(&self.server, TARGET)?;
        differ("the schema", &self.set.schema, &schema)?;
        if rows_too {
            return differ("the rows", &self.set.sums, &dataset::sums(&self.server, TARGET)?);
        }
        for (table, rows) in self.set.rows() {
            let found = self.server.sql(TARGET, &format!("SELECT count(*) FROM {table}"))?;
            differ(&format!("the number of rows of {table}"), &rows.to_string(), found.trim())?;
        }
        Ok(())
    }
}

/// An error that shows the first line in which two texts differ.
fn differ(what: &str, source: &str, found: &str) -> Result<(), Failure> {
    if source == found {
        return Ok(());
    }
    let (mut left, mut right) = (source.lines(), found.lines());
    loop {
        match (left.next(), right.next()) {
            (a, b) if a == b && a.is_some() => {}
            (a, b) => {
                let line = |text: Option<&str>| text.unwrap_or("(nothing)").to_owned();
                return Err(format!(
                    "{what} of the restored database differs:\n  source:   {}\n  restored: {}",
                    line(a),
                    line(b)
                ));
            }
        }
    }
}

/// What the rounds gave for one arm.
#[derive(Default)]
struct Series {
    wall: Vec<f64>,
    client: Vec<f64>,
    server: Vec<f64>,
    peak: Vec<f64>,
    disk: Vec<f64>,
}

pub(super) fn restore(options: &Options) -> Result<(), Failure> {
    let setting = Setting::new(&options.common, options.jobs)?;
    let rounds = options.common.rounds;
    let mut series: Vec<(Arm, Series)> = options.arms.iter().map(|arm| (*arm, Series::default())).collect();
    for round in 0..rounds {
        for arm in order(&options.arms, round) {
            let (took, server) = setting.restore(arm, &format!("{arm}-{round}"))?;
            setting.check(round == 0 || options.check_all)?;
            say(&format!(
                "round {}: {:<15} {:7.2} s; client CPU {:6.2} s, server CPU {server:6.2} s, peak {:4.0} MiB, disk {:4.0} MiB; equal",
                round + 1,
                arm.to_string(),
                took.seconds,
                took.cpu,
                took.peak_mib,
                took.written_mib
            ));
            let Some((_, series)) = series.iter_mut().find(|(of, _)| *of == arm) else { continue };
            series.wall.push(took.seconds);
            series.client.push(took.cpu);
            series.server.push(server);
            series.peak.push(took.peak_mib);
            series.disk.push(took.written_mib);
        }
    }
    tell(&setting, options, &series);
    if options.resume {
        for (arm, series) in &series {
            if matches!(arm, Arm::OursPlain | Arm::OursArchive) {
                resume::resume(&setting, *arm, &series.wall)?;
            }
        }
    }
    Ok(())
}

fn tell(setting: &Setting, options: &Options, series: &[(Arm, Series)]) {
    say("");
    say(&format!(
        "{} MiB of SQL text, store {}, {} rounds, everything compared with the source; median [least .. most]",
        setting.set.text_bytes >> 20,
        options.common.rate.shown(),
        options.common.rounds
    ));
    let heading = ["", "wall s", "client CPU s", "server CPU s", "peak MiB", "disk MiB"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (arm, of) in series {
        rows.push(vec![
            arm.to_string(),
            spread(&of.wall, 2),
            spread(&of.client, 2),
            spread(&of.server, 2),
            format!("{:.0}", of.peak.iter().copied().fold(0.0, f64::max)),
            format!("{:.0}", median(&of.disk)),
        ]);
    }
    table(&rows).iter().for_each(|line| say(line));
    say("");
    say("ratios within a round, ours to theirs; below 1 ours is faster, or takes less");
    let mut rows = vec![["", "wall", "server CPU"].map(str::to_owned).to_vec()];
    let ours = series.iter().filter(|(arm, _)| matches!(arm, Arm::OursPlain | Arm::OursArchive));
    for (arm, of) in ours {
        let peers: Vec<_> =
            series.iter().filter(|(arm, _)| matches!(arm, Arm::Psql | Arm::PgRestore(_))).collect();
        for (peer, theirs) in &peers {
            rows.push(vec![
                format!("{arm} / {peer}"),
                spread(&paired(&of.wall, &theirs.wall), 2),
                spread(&paired(&of.server, &theirs.server), 2),
            ]);
        }
        if let [(_, first), rest @ ..] = peers.as_slice()
            && !rest.is_empty()
        {
            let fastest =
                rest.iter().fold(first.wall.clone(), |fast, (_, series)| faster(&fast, &series.wall));
            rows.push(vec![format!("{arm} / the fastest peer"), spread(&paired(&of.wall, &fastest), 2)]);
        }
    }
    table(&rows).iter().for_each(|line| say(line));
    say("");
    say(
        "peers fetch with curl, then restore as the same unprivileged owner; peak: the largest process of each",
    );
    say(&format!("dumps and truth: {}", shown(&folder().join("data"))));
}
