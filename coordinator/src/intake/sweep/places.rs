//! Which repositories are compared, and which of them first.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use patchfleet_domain::RepositoryName;

use super::Sweeper;
use crate::intake::IntakeError;

impl Sweeper {
    /// Those that are listed in the configuration; else those that the credentials can work in and
    /// that have something open, and those that have tasks. The one that the last sweep left off at
    /// comes first.
    pub(super) async fn places(&self) -> Result<Vec<RepositoryName>, IntakeError> {
        let places = match &self.intake.policy.repositories {
            Some(listed) => listed.clone(),
            None => self.all_places().await?,
        };
        let next = self
            .next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(beginning_with(places, next.as_ref()))
    }

    /// Has the next sweep begin there.
    pub(super) fn begin_with(&self, first: Option<RepositoryName>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = first;
    }

    async fn all_places(&self) -> Result<BTreeSet<RepositoryName>, IntakeError> {
        let mut places: BTreeSet<_> = self
            .intake
            .store
            .repositories()
            .await?
            .into_iter()
            .collect();
        match self.github().repositories().await {
            Ok(listed) => {
                let busy = listed.into_iter().filter(|it| it.open_issues > 0);
                places.extend(busy.map(|it| it.name));
            }
            Err(error) => {
                tracing::warn!(%error, "repositories without tasks can't be listed, so they are not compared");
            }
        }
        Ok(places)
    }
}

fn beginning_with(
    places: BTreeSet<RepositoryName>,
    next: Option<&RepositoryName>,
) -> Vec<RepositoryName> {
    let mut places: Vec<_> = places.into_iter().collect();
    let start = next.map_or(0, |next| places.partition_point(|place| place < next));
    if start < places.len() {
        places.rotate_left(start);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_begins_where_the_last_one_ended_and_leaves_nothing_out() {
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let places = || BTreeSet::from(["a/a", "a/b", "a/d"].map(name));
        let from = |next: &str| {
            let round = beginning_with(places(), Some(&name(next)));
            round.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(from("a/b"), ["a/b", "a/d", "a/a"]);
        // Gone since.
        assert_eq!(from("a/c"), ["a/d", "a/a", "a/b"]);
        assert_eq!(from("a/z"), ["a/a", "a/b", "a/d"]);
        assert_eq!(beginning_with(BTreeSet::new(), None), []);
    }
}
