//! What must hold of a flow before it runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::definition::{Flow, FlowError, OnError};
use crate::position::of_value;

/// Checks all; the first fault is told.
pub(crate) fn check(flow: &Flow, text: &str) -> Result<(), FlowError> {
    let Some(start) = flow.nodes.first() else {
        return Err(FlowError {
            line: 1,
            column: 1,
            message: "a flow needs at least one node".to_owned(),
        });
    };
    unique_ids(flow, text)?;
    sound_policies(flow, text)?;
    known_ends(flow, text)?;
    one_default(flow, text)?;
    let ways = ways(flow);
    all_reachable(flow, text, &reachable(&ways, &start.id))?;
    bounded(flow, text, &ways)
}

/// Where each node may lead, errors included.
type Ways<'a> = BTreeMap<&'a str, Vec<&'a str>>;

fn ways(flow: &Flow) -> Ways<'_> {
    let mut ways = Ways::new();
    for edge in &flow.edges {
        ways.entry(&edge.from).or_default().push(&edge.to);
    }
    for node in &flow.nodes {
        if let OnError::Goto(to) = &node.on_error {
            ways.entry(&node.id).or_default().push(to);
        }
    }
    ways
}

/// Every node that can be come to from one, that one included.
fn reachable<'a>(ways: &Ways<'a>, from: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        for to in ways.get(node).into_iter().flatten() {
            if found.insert(to) {
                open.push(to);
            }
        }
    }
    found
}

fn unique_ids(flow: &Flow, text: &str) -> Result<(), FlowError> {
    let mut seen = BTreeSet::new();
    for node in &flow.nodes {
        if !seen.insert(&node.id) {
            let position = of_value(text, "id", &node.id, 1);
            return Err(FlowError::at(
                position,
                format!("there are two nodes `{}`", node.id),
            ));
        }
    }
    Ok(())
}

/// Refuses numbers that would let nothing run, and templates that can never be filled in.
fn sound_policies(flow: &Flow, text: &str) -> Result<(), FlowError> {
    if flow.max_rounds == Some(0) {
        let position = of_value(text, "max_rounds", "0", 0);
        return Err(FlowError::at(position, "`max_rounds` must be at least 1"));
    }
    for node in &flow.nodes {
        let fault = if node.retry.max_attempts == 0 {
            "`retry.max_attempts` must be at least 1".to_owned()
        } else if !(node.retry.backoff >= 1.0 && node.retry.backoff.is_finite()) {
            "`retry.backoff` must be at least 1".to_owned()
        } else if node.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
            "`timeout` must be longer than nothing".to_owned()
        } else if let Err(error) = crate::template::check(&node.input) {
            error.to_string()
        } else {
            continue;
        };
        let position = of_value(text, "id", &node.id, 0);
        return Err(FlowError::at(
            position,
            format!("node `{}`: {fault}", node.id),
        ));
    }
    Ok(())
}

fn known_ends(flow: &Flow, text: &str) -> Result<(), FlowError> {
    let ends = flow
        .edges
        .iter()
        .flat_map(|edge| [("from", &edge.from), ("to", &edge.to)]);
    let gotos = flow.nodes.iter().filter_map(|node| match &node.on_error {
        OnError::Goto(to) => Some(("goto", to)),
        OnError::Fail | OnError::Continue => None,
    });
    for (key, id) in ends.chain(gotos) {
        if flow.node(id).is_none() {
            let position = of_value(text, key, id, 0);
            return Err(FlowError::at(position, format!("there is no node `{id}`")));
        }
    }
    Ok(())
}

fn one_default(flow: &Flow, text: &str) -> Result<(), FlowError> {
    for node in &flow.nodes {
        let edges: Vec<_> = flow.edges_from(&node.id).collect();
        let defaults = edges.iter().filter(|edge| edge.when.is_none()).count();
        if !edges.is_empty() && defaults != 1 {
            let position = of_value(text, "from", &node.id, 0);
            let message = format!(
                "node `{}` needs exactly one edge without `when`, which is taken when no other is; it has {defaults}",
                node.id
            );
            return Err(FlowError::at(position, message));
        }
    }
    Ok(())
}

fn all_reachable(flow: &Flow, text: &str, reachable: &BTreeSet<&str>) -> Result<(), FlowError> {
    match flow
        .nodes
        .iter()
        .find(|node| !reachable.contains(node.id.as_str()))
    {
        Some(node) => {
            let position = of_value(text, "id", &node.id, 0);
            Err(FlowError::at(
                position,
                format!("no edge leads to node `{}`", node.id),
            ))
        }
        None => Ok(()),
    }
}

fn bounded(flow: &Flow, text: &str, ways: &Ways<'_>) -> Result<(), FlowError> {
    if flow.max_rounds.is_some() {
        return Ok(());
    }
    let looping = flow.nodes.iter().find(|node| {
        let next = ways.get(node.id.as_str()).into_iter().flatten();
        next.into_iter()
            .any(|to| reachable(ways, to).contains(node.id.as_str()))
    });
    match looping {
        Some(node) => {
            let position = of_value(text, "id", &node.id, 0);
            let message = format!(
                "node `{}` is in a loop; bound it with `max_rounds`",
                node.id
            );
            Err(FlowError::at(position, message))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::Flow;

    fn error(text: &str) -> String {
        Flow::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_fault_is_told_with_line_and_column() {
        let nodes = "name: f\nnodes:\n  - {id: a, uses: x}\n  - {id: b, uses: x}\n";
        let cases = [
            ("edges:\n  - {from: a, to: c}", "6:19: there is no node `c`"),
            (
                "edges:\n  - {from: a, to: a}\nmax_rounds: 2",
                "4:10: no edge leads to node `b`",
            ),
            (
                "edges:\n  - {from: a, to: b}\n  - {from: b, to: a}",
                "3:10: node `a` is in a loop; bound it with `max_rounds`",
            ),
            (
                "edges:\n  - {from: a, to: b, when: '$ctx.'}",
                "6:12: condition `$ctx.`: a path was expected at column 6",
            ),
        ];
        for (edges, expected) in cases {
            assert_eq!(error(&format!("{nodes}{edges}")), expected);
        }
        assert!(
            error(&format!(
                "{nodes}edges:\n  - {{from: a, to: b, when: 'true'}}"
            ))
            .starts_with("6:12: node `a` needs exactly one edge")
        );
    }

    #[test]
    fn each_fault_is_told_at_its_own_place() {
        let nodes = "name: f\nnodes:\n  - {id: a, uses: x}\n  - {id: b, uses: x}\n";
        let second = format!(
            "{nodes}edges:\n  # - {{from: a, to: b}}\n  - {{from: a, to: b}}\n  - {{from: a, to: b, when: '('}}"
        );
        assert!(
            error(&second).starts_with("8:12: condition"),
            "{}",
            error(&second)
        );
        let commented = "name: f\nnodes: # id: a\n  # - id: a\n  - {id: a, uses: x}\n  - {id: b, uses: x}\nedges: [{from: a, to: a}]\nmax_rounds: 1";
        assert_eq!(error(commented), "5:10: no edge leads to node `b`");
    }

    #[test]
    fn policies_that_let_nothing_run_are_refused() {
        let node = |policy: &str| {
            error(&format!(
                "name: f\nnodes:\n  - {{id: a, uses: x, {policy}}}"
            ))
        };
        for (policy, fault) in [
            (
                "retry: {max_attempts: 0}",
                "`retry.max_attempts` must be at least 1",
            ),
            (
                "retry: {backoff: 0.5}",
                "`retry.backoff` must be at least 1",
            ),
            (
                "retry: {backoff: .nan}",
                "`retry.backoff` must be at least 1",
            ),
            ("timeout: 0s", "`timeout` must be longer than nothing"),
            (
                "with: {a: ['{{ ctx.b }}']}",
                "`{{ ctx.b }}` is not a template: write `{{ $ctx.path }}`",
            ),
        ] {
            assert_eq!(node(policy), format!("3:10: node `a`: {fault}"));
        }
        assert_eq!(
            error("name: f\nmax_rounds: 0\nnodes: [{id: a, uses: x}]"),
            "2:13: `max_rounds` must be at least 1"
        );
    }

    #[test]
    fn unknown_fields_and_doubles_are_told() {
        assert_eq!(
            error("name: f\nnodes:\n  - {id: a, uses: x}\n  - {id: a, uses: y}"),
            "4:10: there are two nodes `a`"
        );
        let text = error("name: f\nnodes:\n  - id: a\n    uses: x\n    retries: 3\n");
        assert!(
            text.contains("unknown field `retries`") && text.starts_with("5:"),
            "{text}"
        );
        assert_eq!(
            error("name: f\nnodes: []"),
            "1:1: a flow needs at least one node"
        );
    }
}
