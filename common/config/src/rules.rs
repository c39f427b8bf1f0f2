//! Rules that a configuration may break although the type of every field is right.

/// A configuration that knows its rules.
pub trait Rules {
    /// What breaks them.
    fn faults(&self) -> Faults;
}

/// A rule that is broken: the field that is to blame first, and those that it was compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Paths with dots; entries of lists by their number.
    pub fields: Vec<String>,
    /// What is wrong, and what would be accepted.
    pub message: String,
}

/// What was found, in the order of the rules.
#[derive(Debug, Clone, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault of the fields unless the rule holds.
    pub fn rule(&mut self, holds: bool, fields: &[&str], message: impl Into<String>) {
        if !holds {
            self.0.push(Fault {
                fields: fields.iter().copied().map(str::to_owned).collect(),
                message: message.into(),
            });
        }
    }

    /// Takes over what was found in a section.
    pub fn section(&mut self, prefix: &str, section: Self) {
        let faults = section.0.into_iter();
        self.0.extend(faults.map(|mut fault| {
            for field in &mut fault.fields {
                *field = format!("{prefix}.{field}");
            }
            fault
        }));
    }

    /// Takes over what was found of the same section elsewhere.
    pub fn all(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The first one.
    pub fn first(&self) -> Option<&Fault> {
        self.0.first()
    }
}
