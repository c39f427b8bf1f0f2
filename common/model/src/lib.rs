//! Language models behind one port: the conversation, its answer, what it used and how it fails.
//!
//! In flow order: a [`Conversation`] goes to a [`Model`], which streams [`Event`]s that add up to
//! an [`Answer`], or breaks off with a [`Broken`] that says what was received and used until then.
//! Invariants: a call and its result are one [`Turn`] and can't be separated; usage has disjoint
//! classes; an answer without its protocol's own end is never an answer. Absent: what to ask a
//! model, and what to do with an answer.

mod answer;
mod body;
mod client;
mod conversation;
mod decode;
mod error;
mod failure;
mod frames;
mod history;
mod no_answer;
mod port;
mod protocol;
mod reading;
mod retry;
mod table;
mod usage;

pub use answer::{Answer, Event, Stop};
pub use client::{Client, Settings, SetupError};
pub use conversation::{
    Arguments, Conversation, Effort, Message, Opaque, Origin, Part, Sampling, Tool, ToolCall,
    ToolResult, Turn,
};
pub use decode::Decoder;
pub use error::{Broken, ModelError};
pub use no_answer::NoAnswer;
pub use port::Model;
pub use protocol::{Parameter, Protocol, Target};
pub use reading::{Read, Reading};
pub use retry::{POLICY, Retrying};
pub use table::{Bill, EditFormat, Entry, ImportError, Table, UnknownPrice};
pub use usage::Usage;
