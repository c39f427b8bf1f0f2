//! What the agent and a supervisor say to each other: an order on the command line, a report on
//! the socket that is the supervisor's standard input.

use std::ffi::{OsStr, OsString};
use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

use super::Limits;

/// The hidden subcommand.
pub(super) const SUBCOMMAND: &str = "supervise";

/// What a supervisor is to run. Folder, environment and outputs are its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// How many bytes of the socket are the command's standard input.
    pub(super) input: usize,
    pub(super) limits: Option<Limits>,
    /// How long after the command's own end whoever is left may go on.
    pub(super) linger: Duration,
    /// The program's file.
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
}

impl Order {
    /// The supervisor's arguments.
    pub(super) fn to_args(&self) -> impl Iterator<Item = OsString> {
        let linger = u64::try_from(self.linger.as_millis()).unwrap_or(u64::MAX);
        let numbers = [
            Some(self.input as u64),
            Some(linger),
            self.limits.map(|limits| limits.file_size),
            self.limits.map(|limits| limits.open_files),
        ];
        let numbers = numbers.map(|number| match number {
            Some(number) => number.to_string().into(),
            None => OsString::from("-"),
        });
        [SUBCOMMAND.into()]
            .into_iter()
            .chain(numbers)
            .chain([self.program.clone()])
            .chain(self.args.iter().cloned())
    }

    /// Reads the arguments behind the subcommand.
    pub(super) fn from_args(mut args: impl Iterator<Item = OsString>) -> Option<Self> {
        let input = number(&args.next()?)?;
        let linger = Duration::from_millis(number(&args.next()?)?);
        let limits = (number(&args.next()?), number(&args.next()?));
        Some(Self {
            input: usize::try_from(input).ok()?,
            linger,
            limits: match limits {
                (Some(file_size), Some(open_files)) => Some(Limits {
                    file_size,
                    open_files,
                }),
                _ => None,
            },
            program: args.next()?,
            args: args.collect(),
        })
    }
}

fn number(text: &OsStr) -> Option<u64> {
    text.to_str()?.parse().ok()
}

/// How the command ended, as one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It was not started; the system's error number.
    NotStarted(i32),
}

impl Report {
    pub(super) fn of(status: WaitStatus) -> Self {
        match status {
            WaitStatus::Exited(_, code) => Self::Exited(code),
            WaitStatus::Signaled(_, signal, _) => Self::Killed(signal as i32),
            // Waiting without options reports ends only.
            _ => Self::Killed(Signal::SIGKILL as i32),
        }
    }

    pub(super) fn not_started(error: &io::Error) -> Self {
        Self::NotStarted(error.raw_os_error().unwrap_or(nix::libc::EINVAL))
    }

    pub(super) fn to_line(self) -> String {
        match self {
            Self::Exited(code) => format!("exited {code}\n"),
            Self::Killed(signal) => format!("killed {signal}\n"),
            Self::NotStarted(errno) => format!("not-started {errno}\n"),
        }
    }

    pub(super) fn from_line(line: &str) -> Option<Self> {
        let (word, number) = line.strip_suffix('\n')?.split_once(' ')?;
        let number = number.parse().ok()?;
        match word {
            "exited" => Some(Self::Exited(number)),
            "killed" => Some(Self::Killed(number)),
            "not-started" => Some(Self::NotStarted(number)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_the_command_line() {
        for limits in [None, Some(Limits::default())] {
            let order = Order {
                input: 7,
                limits,
                linger: Duration::from_millis(30),
                program: "/bin/sh".into(),
                args: ["-c", "", "--", "-"].map(OsString::from).into(),
            };
            let args = order.to_args().skip(1);
            assert_eq!(Order::from_args(args), Some(order.clone()));
        }
        assert_eq!(Order::from_args(["x".into()].into_iter()), None);
    }

    #[test]
    fn a_report_survives_its_line_and_half_a_line_is_none() {
        for report in [
            Report::Exited(3),
            Report::Killed(9),
            Report::NotStarted(nix::libc::ENOENT),
        ] {
            let line = report.to_line();
            assert_eq!(Report::from_line(&line), Some(report));
            assert_eq!(Report::from_line(line.trim_end()), None);
        }
    }
}
