//! Comments on issues and pull requests.

use serde_json::{Value, json};

use super::super::model::Comment;
use super::super::problem::Problem;
use super::super::shape;
use super::Act;

impl Act<'_> {
    /// Adds a comment.
    pub(crate) fn comment(&mut self, number: u64, body: &str) -> Result<u64, Problem> {
        if body.trim().is_empty() {
            return Err(Problem::invalid("IssueComment", "body", "missing_field"));
        }
        let (id, now) = (self.state.next_id(), self.state.now());
        let comment = Comment {
            id,
            author: self.by.clone(),
            body: body.to_owned(),
            created_at: now,
            updated_at: now,
        };
        let issue = self.state.issue_mut(self.repository, number)?;
        issue.comments.push(comment.clone());
        self.touch(number)?;
        self.announce_comment(number, "created", &comment, Value::Null)?;
        Ok(id)
    }

    /// Gives a comment a new text.
    pub(crate) fn edit_comment(&mut self, id: u64, body: &str) -> Result<(), Problem> {
        if body.trim().is_empty() {
            return Err(Problem::invalid("IssueComment", "body", "missing_field"));
        }
        let now = self.state.now();
        let (number, place) = self.place_of_comment(id)?;
        let issue = self.state.issue_mut(self.repository, number)?;
        let comment = &mut issue.comments[place];
        let from = std::mem::replace(&mut comment.body, body.to_owned());
        comment.updated_at = now;
        let comment = comment.clone();
        let changes = json!({ "changes": { "body": { "from": from } } });
        self.announce_comment(number, "edited", &comment, changes)
    }

    /// Removes a comment.
    pub(crate) fn delete_comment(&mut self, id: u64) -> Result<(), Problem> {
        let (number, place) = self.place_of_comment(id)?;
        let issue = self.state.issue_mut(self.repository, number)?;
        let comment = issue.comments.remove(place);
        self.announce_comment(number, "deleted", &comment, Value::Null)
    }

    /// A comment in its REST form.
    pub(crate) fn show_comment(&self, id: u64) -> Result<Value, Problem> {
        let (issue, comment) = self.state.comment(self.repository, id)?;
        Ok(shape::issue::comment(
            self.state,
            self.repository,
            issue,
            comment,
        ))
    }

    fn place_of_comment(&self, id: u64) -> Result<(u64, usize), Problem> {
        let (issue, _) = self.state.comment(self.repository, id)?;
        let place = issue.comments.iter().position(|comment| comment.id == id);
        Ok((issue.number, place.ok_or(Problem::NotFound)?))
    }

    fn announce_comment(
        &mut self,
        number: u64,
        action: &str,
        comment: &Comment,
        more: Value,
    ) -> Result<(), Problem> {
        let (state, id) = (&*self.state, self.repository);
        let issue = state.issue(id, number)?;
        let mut body = json!({
            "action": action,
            "issue": shape::issue::issue(state, id, issue),
            "comment": shape::issue::comment(state, id, issue, comment),
        });
        super::merge_fields(&mut body, more);
        self.announce("issue_comment", body);
        Ok(())
    }
}
