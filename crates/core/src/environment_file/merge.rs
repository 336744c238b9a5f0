//! Lays one environment file over another.

use crate::document::{Tree, TreeKind};

/// `over` laid over `base`: maps merge key by key, everything else of `over` wins. The source of a
/// secret is replaced whole: half of one and half of another would be neither.
pub(super) fn over(base: Tree, over: Tree) -> Tree {
    merge(base, over, 0, false)
}

/// `depth` 1 is below a key of the file, 2 below a name in it.
fn merge(base: Tree, over: Tree, depth: usize, in_secrets: bool) -> Tree {
    let span = over.span;
    match (base.kind, over.kind) {
        (TreeKind::Map(mut entries), TreeKind::Map(news)) if !(in_secrets && depth == 2) => {
            for (key, value) in news {
                let in_secrets = in_secrets || (depth == 0 && key.value == "secrets");
                match entries.iter_mut().find(|(have, _)| have.value == key.value) {
                    Some((place, have)) => {
                        *place = key;
                        let empty = Tree { kind: TreeKind::Null, span: have.span };
                        let old = std::mem::replace(have, empty);
                        *have = merge(old, value, depth + 1, in_secrets);
                    }
                    None => entries.push((key, value)),
                }
            }
            Tree { kind: TreeKind::Map(entries), span }
        }
        (_, kind) => Tree { kind, span },
    }
}
