//! Making calls and holding each answer to the description.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use patchfleet_testkit::github::Simulator;
use reqwest::Method;
use serde_json::Value;

use crate::REPO;
use crate::description::Description;

/// Calls the simulator and keeps what the description has against it.
pub(crate) struct Checker {
    pub(crate) description: Description,
    pub(crate) github: Simulator,
    pub(crate) client: reqwest::Client,
    pub(crate) seen: BTreeSet<(String, String)>,
    pub(crate) findings: Vec<String>,
}

impl Checker {
    /// A call that should answer `status`; `template` names it in the description.
    pub(crate) async fn call(&mut self, call: Call<'_>, token: &str) -> Result<Value> {
        let mut url = format!("{}{}", self.github.base_url(), call.template);
        for (name, value) in call.with {
            url = url.replace(&format!("{{{name}}}"), value);
        }
        url = url.replace("{owner}/{repo}", REPO);
        let method: Method = call.method.parse()?;
        let mut request = self.client.request(method, &url);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !call.body.is_null() {
            request = request.json(&call.body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        let body: Option<Value> = match text.as_str() {
            "" => None,
            text => Some(serde_json::from_str(text)?),
        };
        if status.as_u16() != call.status {
            bail!("{} {url} answered {status}: {text}", call.method);
        }
        let name = (call.method, call.template);
        for one in self.description.answer(name, call.status, body.as_ref())? {
            self.findings
                .push(format!("{} {} {status} {one}", name.0, name.1));
        }
        if status.is_success() {
            self.seen.insert((name.0.to_owned(), name.1.to_owned()));
        }
        Ok(body.unwrap_or_default())
    }
}

/// One call.
pub(crate) struct Call<'a> {
    method: &'a str,
    template: &'a str,
    with: &'a [(&'a str, &'a str)],
    body: Value,
    status: u16,
}

/// A call that reads.
pub(crate) fn get<'a>(template: &'a str, with: &'a [(&'a str, &'a str)]) -> Call<'a> {
    Call {
        method: "GET",
        template,
        with,
        body: Value::Null,
        status: 200,
    }
}

/// A call that changes something: method and status, path, parameters, body.
pub(crate) fn send<'a>(
    line: (&'a str, u16),
    template: &'a str,
    with: &'a [(&'a str, &'a str)],
    body: Value,
) -> Call<'a> {
    Call {
        method: line.0,
        template,
        with,
        body,
        status: line.1,
    }
}
