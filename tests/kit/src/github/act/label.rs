//! Labels of a repository and on its issues.

use serde_json::{Value, json};

use super::super::model::Label;
use super::super::problem::Problem;
use super::super::shape;
use super::Act;

/// Colour of a label that nobody gave a colour.
const GREY: &str = "ededed";

impl Act<'_> {
    /// Offers a new label; refuses a second one of that name.
    pub(crate) fn create_label(&mut self, label: NewLabel) -> Result<Label, Problem> {
        if self.find_label(&label.name).is_some() {
            return Err(Problem::invalid("Label", "name", "already_exists"));
        }
        let label = Label {
            id: self.state.next_id(),
            name: label.name,
            color: label.color.unwrap_or_else(|| GREY.to_owned()),
            description: label.description,
        };
        self.repo_mut().labels.push(label.clone());
        Ok(label)
    }

    /// The labels as the repository writes them; unknown ones are created.
    pub(super) fn label_names(&mut self, names: &[String]) -> Vec<String> {
        let mut known: Vec<String> = Vec::new();
        for name in names {
            let found = self.find_label(name).map(|label| label.name.clone());
            let name = found.unwrap_or_else(|| {
                let new = NewLabel::named(name);
                // It cannot exist: it was just looked for.
                self.create_label(new)
                    .map_or_else(|_| name.clone(), |label| label.name)
            });
            if !known.contains(&name) {
                known.push(name);
            }
        }
        known
    }

    fn find_label(&self, name: &str) -> Option<&Label> {
        let mut labels = self.repo().labels.iter();
        labels.find(|label| label.name.eq_ignore_ascii_case(name))
    }

    /// Puts labels on; those already there cause no event.
    pub(crate) fn add_labels(&mut self, number: u64, names: &[String]) -> Result<(), Problem> {
        self.state.issue(self.repository, number)?;
        for name in self.label_names(names) {
            let issue = self.state.issue_mut(self.repository, number)?;
            if issue.labels.contains(&name) {
                continue;
            }
            issue.labels.push(name.clone());
            self.touch(number)?;
            self.announce_label(number, "labeled", &name)?;
        }
        Ok(())
    }

    /// Takes a label off; 404 when it is not on.
    pub(crate) fn remove_label(&mut self, number: u64, name: &str) -> Result<(), Problem> {
        let issue = self.state.issue_mut(self.repository, number)?;
        let place = issue
            .labels
            .iter()
            .position(|label| label.eq_ignore_ascii_case(name));
        let removed = issue.labels.remove(place.ok_or(Problem::NotFound)?);
        self.touch(number)?;
        self.announce_label(number, "unlabeled", &removed)
    }

    /// Makes these the only labels.
    pub(crate) fn replace_labels(&mut self, number: u64, names: &[String]) -> Result<(), Problem> {
        let wanted = self.label_names(names);
        let before = self.state.issue(self.repository, number)?.labels.clone();
        for name in before.iter().filter(|name| !wanted.contains(name)) {
            self.remove_label(number, name)?;
        }
        self.add_labels(number, &wanted)
    }

    pub(super) fn announce_label(
        &mut self,
        number: u64,
        action: &str,
        name: &str,
    ) -> Result<(), Problem> {
        let label = self.find_label(name);
        let label = label.map_or(Value::Null, |label| {
            shape::issue::label(self.state, self.repo(), label)
        });
        self.announce_issue(number, action, json!({ "label": label }))
    }
}

/// A label to offer.
#[derive(Debug, Clone)]
pub(crate) struct NewLabel {
    pub(crate) name: String,
    pub(crate) color: Option<String>,
    pub(crate) description: Option<String>,
}

impl NewLabel {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            color: None,
            description: None,
        }
    }
}
