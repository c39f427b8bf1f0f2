//! One REST call as its function sees it, and the answer it gives.

#![expect(
    clippy::unnecessary_wraps,
    reason = "the functions that make an answer are the last word of a call, which may fail"
)]

use serde_json::{Value, json};
use url::form_urlencoded;

use super::super::account::Actor;
use super::super::act::Act;
use super::super::model::{Permission, Repository, RepositoryId};
use super::super::problem::Problem;
use super::super::state::State;
use super::{Asked, resource};

/// GitHub's page size and its largest.
const PER_PAGE: usize = 30;
const PER_PAGE_MAX: usize = 100;

/// A call about to be answered.
pub(crate) struct Call<'a> {
    pub(super) state: &'a mut State,
    pub(super) actor: &'a Actor,
    pub(super) asked: &'a Asked,
    pub(super) params: Vec<(&'static str, String)>,
    pub(super) body: Value,
}

/// What a call answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(super) status: u16,
    pub(super) content: Content,
    pub(super) link: Option<String>,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Content {
    /// JSON, nearly always.
    Json(Value),
    /// Another media type.
    Raw(&'static str, Vec<u8>),
    /// Nothing.
    Empty,
}

/// The usual end of a call.
pub(super) type Result<T = Answer> = std::result::Result<T, Problem>;

/// 200 with JSON.
pub(super) fn ok(body: Value) -> Result {
    with_status(200, body)
}

/// 201 with JSON.
pub(super) fn created(body: Value) -> Result {
    with_status(201, body)
}

/// Any status with JSON.
pub(super) fn with_status(status: u16, body: Value) -> Result {
    Ok(Answer {
        status,
        content: Content::Json(body),
        link: None,
    })
}

/// Another media type.
pub(super) fn raw(kind: &'static str, body: Vec<u8>) -> Result {
    Ok(Answer {
        status: 200,
        content: Content::Raw(kind, body),
        link: None,
    })
}

/// 204.
pub(super) fn no_content() -> Result {
    Ok(Answer {
        status: 204,
        content: Content::Empty,
        link: None,
    })
}

impl Call<'_> {
    /// A part of the path.
    pub(super) fn param(&self, name: &str) -> &str {
        let mut params = self.params.iter();
        params
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value)
    }

    /// A number in the path; what is no number does not exist.
    pub(super) fn number(&self, name: &str) -> Result<u64> {
        self.param(name).parse().map_err(|_| Problem::NotFound)
    }

    /// A value of the query.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.asked.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The repository in the path, if the caller may do that much.
    pub(super) fn repository(&self, needed: Permission) -> Result<RepositoryId> {
        let name = format!("{}/{}", self.param("owner"), self.param("repo"));
        let id = self.state.find_repository(&name).ok_or(Problem::NotFound)?;
        match self.permission(id) {
            Permission::None => Err(Problem::NotFound),
            have if have < needed => Err(self.actor.refusal()),
            _ => Ok(id),
        }
    }

    pub(super) fn repo(&self, id: RepositoryId) -> &Repository {
        self.state.repository(id)
    }

    /// The right to change something, beyond reading what is public.
    pub(super) fn act(&mut self, needed: Permission) -> Result<Act<'_>> {
        let id = self.repository(needed)?;
        let allowed = match self.actor {
            Actor::Account(_) => true,
            // Its rights go by what a call is about: to change that takes its `write`.
            Actor::Installation(_, grant) => {
                let changes = self.asked.method != "GET";
                let enough = !changes || self.permission(id) >= Permission::Write;
                grant.repositories.contains(&id) && enough
            }
            Actor::Anonymous | Actor::App(_) => false,
        };
        if !allowed {
            return Err(self.actor.refusal());
        }
        Ok(Act {
            by: self.actor.login().to_owned(),
            repository: id,
            state: self.state,
        })
    }

    /// Like `act`, but the author of the thing may always.
    pub(super) fn act_on(&mut self, author: &str, needed: Permission) -> Result<Act<'_>> {
        let own = author == self.actor.login();
        self.act(if own { Permission::Read } else { needed })
    }

    /// What the caller may do in a repository.
    pub(super) fn may(&self, id: RepositoryId, needed: Permission) -> bool {
        self.permission(id) >= needed
    }

    /// What the caller may do in a repository with what the call is about.
    pub(super) fn permission(&self, id: RepositoryId) -> Permission {
        let resource = resource::of(self.state, id, &self.asked.path);
        self.actor.permission(self.state, id, resource)
    }

    /// A text field of the body; null and absent are the same.
    pub(super) fn text(&self, field: &str) -> Result<Option<String>> {
        match &self.body[field] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            other => Err(wrong_type(field, other, "string")),
        }
    }

    /// A yes-or-no field of the body; absent is no.
    pub(super) fn flag(&self, field: &str) -> Result<bool> {
        match &self.body[field] {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            other => Err(wrong_type(field, other, "boolean")),
        }
    }

    /// A list of names: texts, or objects with a `name`.
    pub(super) fn names(&self, field: &str) -> Result<Option<Vec<String>>> {
        names_in(field, &self.body[field])
    }

    /// One page of a list, with the addresses of its neighbours.
    pub(super) fn page(&self, items: Vec<Value>) -> Result {
        let (items, link) = self.slice(items);
        Ok(Answer {
            status: 200,
            content: Content::Json(Value::Array(items)),
            link,
        })
    }

    /// One page of a list within an object that counts it.
    pub(super) fn counted_page(&self, field: &str, items: Vec<Value>) -> Result {
        let total = items.len();
        let (items, link) = self.slice(items);
        Ok(Answer {
            status: 200,
            content: Content::Json(json!({ "total_count": total, field: items })),
            link,
        })
    }

    /// How many items the caller wants at once.
    pub(super) fn per_page(&self) -> usize {
        let wanted = self.query("per_page").and_then(|text| text.parse().ok());
        wanted.unwrap_or(PER_PAGE).clamp(1, PER_PAGE_MAX)
    }

    fn slice(&self, items: Vec<Value>) -> (Vec<Value>, Option<String>) {
        let per_page = self.per_page();
        let page = self.query("page").and_then(|text| text.parse().ok());
        let page: usize = page.unwrap_or(1).max(1);
        let last = items.len().div_ceil(per_page).max(1);
        let mut links = Vec::new();
        if page > 1 {
            links.push(self.neighbour("prev", "page", page - 1));
        }
        if page < last {
            links.push(self.neighbour("next", "page", page + 1));
            links.push(self.neighbour("last", "page", last));
        }
        if page > 1 {
            links.push(self.neighbour("first", "page", 1));
        }
        let first = (page - 1).saturating_mul(per_page);
        let items = items.into_iter().skip(first).take(per_page).collect();
        (items, (!links.is_empty()).then(|| links.join(", ")))
    }

    /// A link to the same list elsewhere.
    pub(super) fn neighbour(&self, relation: &str, key: &str, value: impl ToString) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(self.asked.query.as_bytes()) {
            if name != key {
                query.append_pair(&name, &value);
            }
        }
        query.append_pair(key, &value.to_string());
        let (base, path) = (&self.state.base_url, &self.asked.path);
        format!("<{base}{path}?{}>; rel=\"{relation}\"", query.finish())
    }
}

/// A list of names in JSON: texts, or objects with a `name`.
pub(super) fn names_in(field: &str, value: &Value) -> Result<Option<Vec<String>>> {
    let list = match value {
        Value::Null => return Ok(None),
        Value::Array(list) => list,
        other => return Err(wrong_type(field, other, "array")),
    };
    let name = |item: &Value| {
        let text = item.as_str().or(item["name"].as_str());
        text.map(str::to_owned)
            .ok_or_else(|| wrong_type(field, item, "string"))
    };
    list.iter().map(name).collect::<Result<Vec<_>>>().map(Some)
}

fn wrong_type(field: &str, found: &Value, wanted: &str) -> Problem {
    Problem::Validation {
        message: format!(
            "Invalid request.\n\nFor 'properties/{field}', {found} is not a {wanted}."
        ),
        errors: Vec::new(),
    }
}
