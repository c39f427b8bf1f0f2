//! `run_tests`: the repository's tests on the work tree as it is, all of them or some.

use serde::Deserialize;
use serde_json::json;

use super::cap::Keep;
use super::run::{ended, failed, output};
use super::{Answer, Call, Definition, Failed, Tools, as_data};
use crate::nodes::TestResults;

/// The arguments of `run_tests`, as its schema has them.
#[derive(Debug, Deserialize)]
struct Arguments {
    selector: Option<String>,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "run_tests",
        description: "Runs the repository's tests on the files as they are now, as they will be run \
                      in the end. `selector` chooses some, in the words of the test runner, such as \
                      `tests/test_a.py::test_b` for pytest or a part of a name.",
        parameters: json!({
            "type": "object",
            "properties": {"selector": {"type": "string", "minLength": 1, "maxLength": 300}},
            "additionalProperties": false,
        }),
    }
}

pub(super) async fn run(tools: &mut Tools<'_>, call: Call<'_>) -> Result<Answer, Failed> {
    let arguments: Arguments = call.read()?;
    let tests = tools.scope.tests.clone();
    if tests.commands.is_empty() {
        let why = "no test command is known for this repository; use `run` to try the change";
        return Err(Failed::Refused(why.to_owned()));
    }
    let commands = chosen(&tests.commands, arguments.selector.as_deref())?;
    let tree = tools.tree().await?;
    let (mut title, mut text) = (String::new(), String::new());
    let mut all = Vec::with_capacity(commands.len());
    for command in &commands {
        let scope = &tools.scope;
        let on_line = scope.on_line.clone();
        let ran = tests.run(
            command,
            (scope.workspace, scope.private),
            on_line,
            scope.cancel,
        );
        let ran = ran.await.map_err(failed)?;
        tools.settle().await?;
        title += &ended(command, &ran, tests.timeout());
        if commands.len() > 1 {
            text.extend(["$ ", &command.join(" "), "\n"]);
        }
        text += &output(&ran.finished);
        all.push(TestResults::new(ran, tree.clone()));
    }
    let verdict = if all.iter().all(TestResults::ran_none) {
        "NO TESTS RAN: that is neither passed nor failed"
    } else if all.iter().all(|it| it.passed() || it.ran_none()) {
        "PASSED"
    } else {
        "FAILED"
    };
    let text = tools.outputs.show(text, call.room, Keep::Failures);
    let text = as_data(&text);
    Ok(Answer::new(format!(
        "{verdict}, on tree {tree}\n{title}{text}"
    )))
}

/// The commands for all of the tests, or for some: of those that can be told which.
fn chosen(commands: &[Vec<String>], selector: Option<&str>) -> Result<Vec<Vec<String>>, String> {
    let Some(selector) = selector else {
        return Ok(commands.to_vec());
    };
    let (chosen, refused): (Vec<_>, Vec<_>) = commands
        .iter()
        .map(|words| selected(words, selector))
        .partition(Result::is_ok);
    match refused.into_iter().find_map(Result::err) {
        Some(why) if chosen.is_empty() => Err(why),
        _ => Ok(chosen.into_iter().flatten().collect()),
    }
}

/// The command for some of the tests.
fn selected(words: &[String], selector: &str) -> Result<Vec<String>, String> {
    if selector.starts_with('-') {
        return Err("`selector` names tests and is no option of the runner".to_owned());
    }
    let selector = selector.to_owned();
    let names: Vec<&str> = words.iter().map(String::as_str).collect();
    let last = names
        .first()
        .map_or("", |it| it.rsplit('/').next().unwrap_or(it));
    let with = |more: &[&str]| {
        let more = more.iter().map(|&it| it.to_owned());
        words
            .iter()
            .cloned()
            .chain(more)
            .chain([selector.clone()])
            .collect()
    };
    Ok(match (last, &names[1.min(names.len())..]) {
        ("python" | "python3", ["-m", "unittest", ..]) => with(&["-k"]),
        ("go", ["test", ..]) => with(&["-run"]),
        ("npm", rest) if !rest.contains(&"--") => with(&["--"]),
        ("cargo", rest) if !rest.contains(&"--") => with(&[]),
        (
            "pytest" | "py.test" | "yarn" | "pnpm" | "jest" | "vitest" | "mocha" | "rspec"
            | "phpunit",
            _,
        )
        | ("python" | "python3", ["-m", "pytest", ..])
        | ("npx", ["jest" | "vitest" | "mocha", ..])
        | ("mix", ["test", ..]) => with(&[]),
        ("node", ["--test", ..]) => {
            let mut command = words.to_vec();
            command.insert(2, format!("--test-name-pattern={selector}"));
            command
        }
        _ => {
            return Err(format!(
                "how `{}` takes a selection is not known: leave `selector` out, or use `run`",
                words.join(" ")
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_given_as_its_runner_takes_it() {
        for (command, expected) in [
            ("pytest -q", Some("pytest -q x")),
            ("python3 -m pytest", Some("python3 -m pytest x")),
            (
                "python3 -m unittest discover -v",
                Some("python3 -m unittest discover -v -k x"),
            ),
            ("cargo test --workspace", Some("cargo test --workspace x")),
            ("go test ./...", Some("go test ./... -run x")),
            ("npm test", Some("npm test -- x")),
            ("node --test", Some("node --test --test-name-pattern=x")),
            (
                "./node_modules/.bin/jest",
                Some("./node_modules/.bin/jest x"),
            ),
            ("make check", None),
            ("cargo test -- --nocapture", None),
        ] {
            let words: Vec<_> = command.split(' ').map(str::to_owned).collect();
            let command = selected(&words, "x").ok().map(|it| it.join(" "));
            assert_eq!(command.as_deref(), expected);
        }
        assert!(selected(&["pytest".to_owned()], "--pdb").is_err());
    }

    #[test]
    fn of_several_commands_those_run_that_take_a_selection() {
        let commands = [vec!["pytest".to_owned()], vec!["make".to_owned()]];
        assert_eq!(chosen(&commands, None).unwrap(), commands);
        assert_eq!(chosen(&commands, Some("x")).unwrap(), [["pytest", "x"]]);
        assert!(chosen(&commands[1..], Some("x")).is_err());
    }
}
