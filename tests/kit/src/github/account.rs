//! Who calls: tokens, GitHub Apps and their installations.
//!
//! An App's key pair is made here and its private half is handed out once; the
//! simulator keeps only the public half, as GitHub does. Neither tokens nor
//! keys show in `Debug` output.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rand::Rng as _;
use serde_json::Value;

use super::model::{AccountKind, Permission, RepositoryId};
use super::problem::Problem;
use super::state::State;

/// What a token stands for.
#[derive(Clone)]
pub(crate) struct Token {
    /// Account that acts.
    pub(crate) login: String,
    /// Set for the token of an installation.
    pub(crate) installation: Option<InstallationGrant>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

/// What the token of an installation may reach.
#[derive(Debug, Clone)]
pub(crate) struct InstallationGrant {
    pub(crate) installation: u64,
    pub(crate) repositories: Vec<RepositoryId>,
    /// Level by resource, such as `contents: read`; what is not named is not granted.
    pub(crate) permissions: BTreeMap<String, String>,
}

impl InstallationGrant {
    /// What the token may do with a sort of thing, such as `contents`.
    fn level(&self, resource: &str) -> Permission {
        match self.permissions.get(resource).map(String::as_str) {
            Some("write") => Permission::Write,
            Some("read") => Permission::Read,
            // GitHub gives every token this much.
            _ if resource == "metadata" => Permission::Read,
            _ => Permission::None,
        }
    }
}

/// A GitHub App.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) id: u64,
    pub(crate) slug: String,
    pub(crate) owner: String,
    pub(crate) public_key_pem: String,
    pub(crate) created_at: DateTime<Utc>,
}

/// An App on an account's repositories.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    pub(crate) id: u64,
    pub(crate) app: u64,
    /// Login of the account whose repositories they are.
    pub(crate) account: String,
    pub(crate) repositories: Vec<RepositoryId>,
    pub(crate) created_at: DateTime<Utc>,
}

/// What the owner of a new GitHub App gets to know.
#[derive(Clone)]
pub struct NewApp {
    /// Number of the App, the `iss` of its web tokens.
    pub id: u64,
    /// Account that the App acts as: `<slug>[bot]`.
    pub bot_login: String,
    /// Private key (PKCS#8, PEM); the simulator does not keep it.
    pub private_key_pem: String,
}

impl fmt::Debug for NewApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewApp")
            .field("id", &self.id)
            .field("bot_login", &self.bot_login)
            .finish_non_exhaustive()
    }
}

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) enum Actor {
    /// Nobody: no credentials at all.
    Anonymous,
    /// An account with its own rights.
    Account(String),
    /// An App's bot, with the rights of an installation.
    Installation(String, InstallationGrant),
    /// The App itself.
    App(u64),
}

impl Actor {
    /// Login for the records, empty for nobody.
    pub(crate) fn login(&self) -> &str {
        match self {
            Self::Account(login) | Self::Installation(login, _) => login,
            Self::Anonymous | Self::App(_) => "",
        }
    }

    /// Key of the rate limit that this caller spends from.
    pub(crate) fn limit_key(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Account(login) => format!("user {login}"),
            Self::Installation(_, grant) => format!("installation {}", grant.installation),
            Self::App(id) => format!("app {id}"),
        }
    }

    /// What the caller may do in a repository with a sort of thing, such as `contents`, which
    /// matters for installations.
    pub(crate) fn permission(&self, state: &State, id: RepositoryId, resource: &str) -> Permission {
        match self {
            Self::Account(login) => state.permission(id, login),
            Self::Installation(_, grant) if grant.repositories.contains(&id) => {
                grant.level(resource).max(state.permission(id, ""))
            }
            Self::Anonymous | Self::Installation(..) | Self::App(_) => state.permission(id, ""),
        }
    }

    /// The refusal for a caller that lacks a permission.
    pub(crate) fn refusal(&self) -> Problem {
        match self {
            Self::Anonymous => Problem::RequiresAuthentication,
            Self::Account(_) => {
                Problem::Forbidden("Resource not accessible by personal access token".to_owned())
            }
            Self::Installation(..) | Self::App(_) => {
                Problem::Forbidden("Resource not accessible by integration".to_owned())
            }
        }
    }
}

/// Finds the caller by the `Authorization` header.
pub(crate) fn identify(state: &State, header: Option<&str>) -> Result<Actor, Problem> {
    let Some(header) = header else {
        return Ok(Actor::Anonymous);
    };
    let (scheme, value) = header.split_once(' ').ok_or(Problem::BadCredentials)?;
    let value = value.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" if value.matches('.').count() == 2 => app_of_jwt(state, value),
        "bearer" | "token" => by_token(state, value),
        "basic" => by_token(state, &basic_password(value)?),
        _ => Err(Problem::BadCredentials),
    }
}

fn basic_password(value: &str) -> Result<String, Problem> {
    let bytes = BASE64.decode(value).map_err(|_| Problem::BadCredentials)?;
    let text = String::from_utf8(bytes).map_err(|_| Problem::BadCredentials)?;
    let (user, password) = text.split_once(':').ok_or(Problem::BadCredentials)?;
    // Git users may also put the token where the name goes.
    let token = match password {
        "" | "x-oauth-basic" => user,
        _ => password,
    };
    Ok(token.to_owned())
}

fn by_token(state: &State, value: &str) -> Result<Actor, Problem> {
    let token = state.tokens.get(value).ok_or(Problem::BadCredentials)?;
    if token.expires_at.is_some_and(|at| at <= state.now()) {
        return Err(Problem::BadCredentials);
    }
    let login = token.login.clone();
    Ok(match &token.installation {
        Some(grant) => Actor::Installation(login, grant.clone()),
        None => Actor::Account(login),
    })
}

fn app_of_jwt(state: &State, value: &str) -> Result<Actor, Problem> {
    let refused = |why: &str| Problem::BadJsonWebToken(why.to_owned());
    let claims = state
        .apps
        .iter()
        .find_map(|app| claims_of(app, value))
        .ok_or_else(|| refused("A JSON web token could not be decoded"))?;
    let now = state.now().timestamp();
    let expires = claims.1["exp"].as_i64().unwrap_or(i64::MAX);
    if expires <= now {
        return Err(refused(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        ));
    }
    if claims.1["iat"]
        .as_i64()
        .is_none_or(|issued| issued > now + 60)
    {
        return Err(refused(
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        ));
    }
    // Ten minutes, and a minute for clocks that differ.
    if expires > now + 660 {
        return Err(refused(
            "'Expiration time' claim ('exp') is too far in the future",
        ));
    }
    Ok(Actor::App(claims.0))
}

fn claims_of(app: &App, value: &str) -> Option<(u64, Value)> {
    let key = DecodingKey::from_rsa_pem(app.public_key_pem.as_bytes()).ok()?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_aud = false;
    // By the simulator's own clock, which need not be this host's.
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<Value>(value, &key, &validation)
        .ok()?
        .claims;
    let issuer = match &claims["iss"] {
        Value::String(text) => text.parse().ok()?,
        other => other.as_u64()?,
    };
    (issuer == app.id).then_some((app.id, claims))
}

/// Makes a personal token with all rights of an account.
pub(crate) fn issue_token(state: &mut State, login: &str) -> String {
    state.add_user(login, AccountKind::User);
    let login = state.user(login).login;
    let value = random_token("ghp_");
    state.tokens.insert(
        value.clone(),
        Token {
            login,
            installation: None,
            expires_at: None,
        },
    );
    value
}

/// Makes a token of an installation, for some of its repositories, for an hour.
pub(crate) fn issue_installation_token(
    state: &mut State,
    grant: InstallationGrant,
) -> Result<(String, DateTime<Utc>), Problem> {
    let mut all = state.installations.iter();
    let found = all.find(|one| one.id == grant.installation);
    let app = found.map(|i| i.app).ok_or(Problem::NotFound)?;
    let slug = find_app(state, app).map(|app| app.slug.clone());
    let expires_at = state.now() + chrono::Duration::hours(1);
    let value = random_token("ghs_");
    state.tokens.insert(
        value.clone(),
        Token {
            login: bot_login(&slug.ok_or(Problem::NotFound)?),
            installation: Some(grant),
            expires_at: Some(expires_at),
        },
    );
    Ok((value, expires_at))
}

/// Registers a GitHub App with a new key pair.
pub(crate) fn create_app(state: &mut State, slug: &str, owner: &str) -> anyhow::Result<NewApp> {
    let unspecified = |_| anyhow::anyhow!("the cryptography library cannot make an RSA key");
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(unspecified)?;
    let private: Pkcs8V1Der<'static> = pair.as_der().map_err(unspecified)?;
    let public: PublicKeyX509Der<'static> = pair.public_key().as_der().map_err(unspecified)?;
    let app = App {
        id: state.next_id(),
        slug: slug.to_owned(),
        owner: owner.to_owned(),
        public_key_pem: pem("PUBLIC KEY", public.as_ref()),
        created_at: state.now(),
    };
    state.add_user(owner, AccountKind::User);
    state.add_user(&bot_login(slug), AccountKind::Bot);
    let id = app.id;
    state.apps.push(app);
    Ok(NewApp {
        id,
        bot_login: bot_login(slug),
        private_key_pem: pem("PRIVATE KEY", private.as_ref()),
    })
}

pub(crate) fn find_app(state: &State, id: u64) -> Option<&App> {
    state.apps.iter().find(|app| app.id == id)
}

fn bot_login(slug: &str) -> String {
    format!("{slug}[bot]")
}

fn random_token(prefix: &str) -> String {
    let letters = rand::rng().sample_iter(rand::distr::Alphanumeric).take(36);
    prefix.chars().chain(letters.map(char::from)).collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in BASE64.encode(der).as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
