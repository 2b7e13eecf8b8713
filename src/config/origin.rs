//! Where each value was written: key path to file, line and column.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// A text that values came from. Places refer to it, so it is kept for as long as they are.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, or `environment`.
    pub name: PathBuf,
    /// All of it.
    pub text: String,
}

/// A stretch of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The text.
    pub source: Arc<Source>,
    /// From which byte to which.
    pub span: Range<usize>,
}

impl Place {
    /// The line of its first byte, from 1.
    pub fn line(&self) -> usize {
        1 + self.before().matches('\n').count()
    }

    /// The character within that line, from 1.
    pub fn column(&self) -> usize {
        let before = self.before();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        1 + before[start..].chars().count()
    }

    fn before(&self) -> &str {
        self.source.text.get(..self.span.start).unwrap_or_default()
    }
}

/// `loopgate.toml:3:7`.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.source.name.display();
        write!(f, "{name}:{}:{}", self.line(), self.column())
    }
}

/// Where each value of a configuration was written.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    places: BTreeMap<String, Place>,
}

impl Origins {
    /// Where the value of `key` (`route[1].access.users[0]`) was written; where it was not, the nearest parent that was.
    pub fn place(&self, key: &str) -> Option<&Place> {
        let mut key = key;
        loop {
            if let Some(place) = self.places.get(key) {
                return Some(place);
            }
            key = parent(key)?;
        }
    }

    /// Whether the key itself was written.
    pub fn is_written(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    pub(super) fn insert(&mut self, key: String, place: Place) {
        self.places.insert(key, place);
    }

    /// Takes over what a later layer wrote. Its tables of a list come behind the `offset` ones that are there already.
    pub(super) fn adopt(&mut self, layer: Self, offset: &dyn Fn(&str) -> usize) {
        let mut layer = layer.places;
        layer.retain(|key, place| {
            let shifted = shift(key, offset);
            if let Some(shifted) = &shifted {
                self.insert(shifted.clone(), place.clone());
            }
            shifted.is_none()
        });
        self.places.extend(layer);
    }
}

/// `route[1].path` with two routes before it is `route[3].path`; nothing where the key is in no list of tables.
pub(super) fn shift(key: &str, offset: &dyn Fn(&str) -> usize) -> Option<String> {
    let (list, rest) = key.split_once('[')?;
    let (index, rest) = rest.split_once(']')?;
    if list.contains('.') {
        return None;
    }
    let index = index.parse::<usize>().ok()?;
    Some(format!("{list}[{}]{rest}", index + offset(list)))
}

/// `route[1].upstream`, `route[1]`, `route`, nothing.
fn parent(key: &str) -> Option<&str> {
    key.rfind(['.', '[']).map(|at| &key[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_back_to_the_nearest_parent_that_is_written() {
        let source = Arc::new(Source {
            name: "x.toml".into(),
            text: "[[route]]\nü = 1\n".into(),
        });
        let mut origins = Origins::default();
        let place = |span| Place {
            source: Arc::clone(&source),
            span,
        };
        origins.insert("route[0]".into(), place(0..9));
        origins.insert("route[0].ü".into(), place(15..16));
        for (key, want) in [
            ("route[0].ü", Some("x.toml:2:5")),
            ("route[0].access.users[3]", Some("x.toml:1:1")),
            ("route[1]", None),
            ("routes", None),
        ] {
            let place = origins.place(key).map(ToString::to_string);
            assert_eq!(place.as_deref(), want, "{key}");
        }
    }
}
