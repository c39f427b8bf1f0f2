//! Where things are that were renamed, moved or deleted, as GitHub answers for them: an old name leads to
//! `/repositories/ID`, which is good under every name ("Best practices for using the REST API"), a
//! transferred issue to its new place, a deleted one to 410 ("Get an issue").

use super::super::account::Actor;
use super::super::model::{Left, Permission, RepositoryId};
use super::super::problem::Problem;
use super::super::state::State;
use super::Asked;

/// The request under its repository's present name, or the answer that leads elsewhere.
pub(super) fn find(state: &State, asked: &Asked, actor: &Actor) -> Result<Asked, Problem> {
    let parts: Vec<_> = asked.path.trim_matches('/').split('/').collect();
    let named = match parts.as_slice() {
        ["repositories", id, rest @ ..] => {
            let id = id.parse().map(RepositoryId);
            let id = id.map_err(|_| Problem::NotFound)?;
            let known = state.repositories.get(&id).filter(|it| !it.is_deleted);
            let name = known.ok_or(Problem::NotFound)?.full_name();
            Asked {
                path: format!("/repos/{name}{}", below(rest)),
                ..asked.clone()
            }
        }
        ["repos", owner, name, rest @ ..] => {
            let full_name = format!("{owner}/{name}");
            if let Some(id) = state.renamed(&full_name) {
                visible(state, id, actor)?;
                return Err(moved(state, asked, (id, &rest.join("/"))));
            }
            asked.clone()
        }
        _ => return Ok(asked.clone()),
    };
    let parts: Vec<_> = named.path.trim_matches('/').split('/').collect();
    if let ["repos", owner, name, "issues" | "pulls", number, rest @ ..] = parts.as_slice()
        && let Some(id) = state.find_repository(&format!("{owner}/{name}"))
        && let Ok(number) = number.parse()
        && let Some(left) = state.repository(id).left.get(&number)
    {
        visible(state, id, actor)?;
        let (id, number) = match left {
            Left::Deleted => return Err(Problem::Gone),
            Left::MovedTo(id, number) => (*id, *number),
        };
        let rest = format!("issues/{number}{}", below(rest));
        return Err(moved(state, asked, (id, &rest)));
    }
    Ok(named)
}

/// Parts of a path, each with a slash before it.
fn below(parts: &[&str]) -> String {
    parts.iter().flat_map(|part| ["/", *part]).collect()
}

fn visible(state: &State, id: RepositoryId, actor: &Actor) -> Result<(), Problem> {
    if actor.permission(state, id, "metadata") >= Permission::Read {
        Ok(())
    } else {
        Err(Problem::NotFound)
    }
}

fn moved(state: &State, asked: &Asked, (id, rest): (RepositoryId, &str)) -> Problem {
    let slash = if rest.is_empty() { "" } else { "/" };
    let query = match asked.query.as_str() {
        "" => String::new(),
        query => format!("?{query}"),
    };
    Problem::Moved {
        location: format!(
            "{}/repositories/{}{slash}{rest}{query}",
            state.base_url, id.0
        ),
        is_read: asked.method == "GET",
    }
}
