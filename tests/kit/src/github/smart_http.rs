//! Git over smart HTTP: authentication here, the protocol by `git http-backend`.
//!
//! Bodies stream both ways. A push is awaited to its end, even when the caller
//! goes away, so that its events are announced exactly when its refs moved.

use std::process::ExitStatus;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use futures::TryStreamExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio_util::io::{ReaderStream, StreamReader};

use super::account::Actor;
use super::act::Act;
use super::git;
use super::model::{Permission, RepositoryId};
use super::problem::Problem;
use super::server::plain;
use super::shared::Shared;

/// Headers that the protocol needs, with the CGI names that carry them.
const PASSED_ON: [(&str, &str); 4] = [
    ("content-type", "CONTENT_TYPE"),
    ("content-length", "CONTENT_LENGTH"),
    ("content-encoding", "HTTP_CONTENT_ENCODING"),
    ("git-protocol", "GIT_PROTOCOL"),
];

/// Ends of the paths that are git's.
const SERVICES: [&str; 4] = [
    "/info/refs",
    "/git-upload-pack",
    "/git-receive-pack",
    "/HEAD",
];

/// A request of a git client.
#[derive(Debug)]
pub(crate) struct GitRequest {
    method: String,
    /// `owner/name`.
    repository: String,
    /// Path within the repository, with the leading slash.
    service: &'static str,
    query: String,
    variables: Vec<(&'static str, String)>,
}

impl GitRequest {
    /// Recognises `/owner/name[.git]/info/refs` and the two services.
    pub(crate) fn parse(parts: &Parts) -> Option<Self> {
        let path = parts.uri.path();
        let service = SERVICES.into_iter().find(|end| path.ends_with(end))?;
        let repository = path.strip_suffix(service)?.trim_start_matches('/');
        let repository = repository.strip_suffix(".git").unwrap_or(repository);
        if repository.split('/').count() != 2 {
            return None;
        }
        let value = |name: &str| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let variables = PASSED_ON.iter().filter_map(|(header, variable)| {
            value(header).map(|value| (*variable, value.to_owned()))
        });
        Some(Self {
            method: parts.method.to_string(),
            repository: repository.to_owned(),
            service,
            query: parts.uri.query().unwrap_or_default().to_owned(),
            variables: variables.collect(),
        })
    }

    fn is_push(&self) -> bool {
        self.service == "/git-receive-pack" || self.query.contains("service=git-receive-pack")
    }
}

/// Where the request goes and as whom.
struct Admitted {
    repository: RepositoryId,
    login: String,
    project_root: String,
    path: String,
}

/// Answers a git client.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    request: GitRequest,
    actor: Result<Actor, Problem>,
    body: Body,
) -> Response {
    let admitted = match admit(shared, &request, actor) {
        Ok(admitted) => admitted,
        Err(refusal) => return *refusal,
    };
    let moves_refs = request.service == "/git-receive-pack";
    let inside = Arc::clone(shared);
    let done = shared.tasks.spawn(async move {
        let response = backend(&inside, &request, &admitted, body).await?;
        if moves_refs {
            return finish_push(inside, admitted, response).await;
        }
        Ok(response)
    });
    match done.await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error.into()),
    }
}

fn failed(error: &anyhow::Error) -> Response {
    tracing::error!(error = format!("{error:#}"), "git http-backend failed");
    plain(StatusCode::INTERNAL_SERVER_ERROR, "Server Error")
}

fn admit(
    shared: &Shared,
    request: &GitRequest,
    actor: Result<Actor, Problem>,
) -> Result<Admitted, Box<Response>> {
    let Ok(actor) = actor else {
        return Err(Box::new(challenge("Invalid username or token.")));
    };
    let state = shared.state();
    if let Some(id) = state.renamed(&request.repository) {
        let name = state.repository(id).full_name();
        return Err(Box::new(moved(&state.base_url, &name, request)));
    }
    let found = state.find_repository(&request.repository);
    let needed = if request.is_push() {
        Permission::Write
    } else {
        Permission::Read
    };
    let permission = found.map_or(Permission::None, |id| {
        actor.permission(&state, id, "contents")
    });
    if permission < needed && matches!(actor, Actor::Anonymous) {
        return Err(Box::new(challenge("Authentication required.")));
    }
    let Some(id) = found.filter(|_| permission >= Permission::Read) else {
        return Err(Box::new(plain(
            StatusCode::NOT_FOUND,
            "Repository not found.",
        )));
    };
    let repository = state.repository(id);
    if permission < needed {
        let name = repository.full_name();
        let text = format!("Permission to {name}.git denied to {}.", actor.login());
        return Err(Box::new(plain(StatusCode::FORBIDDEN, &text)));
    }
    Ok(Admitted {
        repository: id,
        login: actor.login().to_owned(),
        project_root: state.root.to_string_lossy().into_owned(),
        path: format!("/{}.git{}", repository.full_name(), request.service),
    })
}

/// The way to a repository that has another name now; git takes it.
fn moved(base: &str, name: &str, request: &GitRequest) -> Response {
    let query = match request.query.as_str() {
        "" => String::new(),
        query => format!("?{query}"),
    };
    let location = format!("{base}/{name}.git{}{query}", request.service);
    let mut response = plain(StatusCode::MOVED_PERMANENTLY, "Moved Permanently");
    let location = header::HeaderValue::try_from(location);
    response.headers_mut().insert(
        header::LOCATION,
        location.expect("names and addresses are plain"),
    );
    response
}

fn challenge(text: &str) -> Response {
    let mut response = plain(StatusCode::UNAUTHORIZED, text);
    let realm = header::HeaderValue::from_static("Basic realm=\"GitHub\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, realm);
    response
}

async fn backend(
    shared: &Shared,
    request: &GitRequest,
    admitted: &Admitted,
    body: Body,
) -> Result<Response> {
    let mut command = git::http_backend();
    command
        .env("GIT_PROJECT_ROOT", &admitted.project_root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &admitted.path)
        .env("QUERY_STRING", &request.query)
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REMOTE_USER", &admitted.login)
        .envs(request.variables.iter().map(|(name, value)| (*name, value)));
    let mut child = command
        .spawn()
        .context("git could not be started; is it installed?")?;
    let stdin = child.stdin.take().context("git has no standard input")?;
    let stdout = child.stdout.take().context("git has no standard output")?;
    shared.tasks.spawn(async move {
        tokio::join!(feed(stdin, body), reap(child));
    });
    read_answer(stdout).await
}

async fn feed(mut stdin: ChildStdin, body: Body) {
    let stream = body.into_data_stream().map_err(std::io::Error::other);
    let mut reader = StreamReader::new(stream);
    if let Err(error) = tokio::io::copy(&mut reader, &mut stdin).await {
        tracing::debug!(%error, "a git client or git itself went away");
    }
}

/// Waits for git to end and logs what it complained of.
async fn reap(mut child: Child) {
    let mut words = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // Complaints in a wrong encoding are still followed by the exit status.
        let _ = stderr.read_to_string(&mut words).await;
    }
    let status = child.wait().await;
    if !status.as_ref().is_ok_and(ExitStatus::success) {
        tracing::debug!(
            ?status,
            stderr = words.trim(),
            "git http-backend ended badly"
        );
    }
}

/// Turns CGI headers into HTTP ones; the body streams behind them.
async fn read_answer(stdout: ChildStdout) -> Result<Response> {
    let mut reader = BufReader::new(stdout);
    let mut builder = Response::builder();
    let mut line = String::new();
    loop {
        line.clear();
        let read = reader.read_line(&mut line).await?;
        anyhow::ensure!(read > 0, "git http-backend ended before its headers did");
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("status") {
            let code = value.split_whitespace().next().unwrap_or("500");
            builder = builder.status(code.parse::<u16>()?);
        } else {
            builder = builder.header(name, value.trim());
        }
    }
    let body = Body::from_stream(ReaderStream::new(reader));
    builder
        .body(body)
        .context("git http-backend sent a bad header")
}

/// Reads the answer to its end, by when the refs have moved, and announces them.
async fn finish_push(
    shared: Arc<Shared>,
    admitted: Admitted,
    response: Response,
) -> Result<Response> {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await?;
    let noted = tokio::task::spawn_blocking(move || {
        let mut act = Act {
            state: &mut shared.state(),
            repository: admitted.repository,
            by: admitted.login,
        };
        act.note_push()
    });
    noted.await?.context("the push could not be announced")?;
    Ok(Response::from_parts(parts, Body::from(body)))
}
