//! The names that get a certificate of their own: a closed set, so that no client can have one signed for a name it makes up.

use std::collections::HashMap;

use super::Subject;

/// The names that a listener answers to, with the subject of the certificate that each one gets.
#[derive(Clone, Debug, Default)]
pub struct Names {
    exact: HashMap<String, Subject>,
    /// By the part behind `*.`.
    wild: HashMap<String, Subject>,
}

impl Names {
    /// Takes the host patterns of the routes; addresses are left out (they come without SNI), and so is what is no name.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Self {
        let mut names = Self::default();
        for pattern in patterns {
            let Ok(subject @ Subject::Name(_)) = Subject::parse(pattern.as_ref()) else {
                continue;
            };
            let Subject::Name(name) = &subject else {
                continue;
            };
            let (map, key) = match name.strip_prefix("*.") {
                Some(suffix) => (&mut names.wild, suffix.to_owned()),
                None => (&mut names.exact, name.clone()),
            };
            map.insert(key, subject);
        }
        names
    }

    /// The subject of the certificate for a name that a client asked for (SNI); `None` for a name that is not ours.
    /// Every name under `*.app.lan` shares one subject.
    pub fn subject(&self, sni: &str) -> Option<&Subject> {
        let sni = sni.strip_suffix('.').unwrap_or(sni);
        self.exact.get(sni).or_else(|| {
            let (label, suffix) = sni.split_once('.')?;
            self.wild.get(suffix).filter(|_| !label.is_empty())
        })
    }

    /// All subjects, in no order.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.exact.values().chain(self.wild.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_set_get_a_subject() {
        let names = Names::new(["app.lan", "*.box.lan", "10.0.0.1", "not a name", "A.test."]);
        for (sni, want) in [
            ("app.lan", Some("app.lan")),
            ("app.lan.", Some("app.lan")),
            ("a.test", Some("a.test")),
            ("x.box.lan", Some("*.box.lan")),
            ("y.box.lan", Some("*.box.lan")),
            ("x.y.box.lan", None),
            ("box.lan", None),
            ("other.lan", None),
            ("10.0.0.1", None),
            ("", None),
        ] {
            let got = names.subject(sni).map(ToString::to_string);
            assert_eq!(got.as_deref(), want, "{sni}");
        }
        assert_eq!(names.subjects().count(), 3);
    }
}
