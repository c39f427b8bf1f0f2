//! What processes and their children take, as Linux tells it (`proc(5)`).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;

/// How often memory is looked at.
const SAMPLING: Duration = Duration::from_millis(10);
/// Fields of `stat` after the name: the parent's number, and ticks of 10 ms in user and system mode,
/// of the process and of its children that ended.
const PARENT: usize = 1;
const OWN: [usize; 2] = [11, 12];
const CHILDREN: [usize; 2] = [13, 14];

/// Seconds of processors that children of this process took, of those that ended.
pub(crate) fn waited_for() -> anyhow::Result<f64> {
    seconds("self", &CHILDREN)
}

/// Seconds of processors that a process took by itself.
pub(crate) fn own(pid: u32) -> anyhow::Result<f64> {
    seconds(&pid.to_string(), &OWN)
}

/// Seconds of processors that a process took, with its children that ended.
pub(crate) fn used(pid: u32) -> anyhow::Result<f64> {
    Ok(own(pid)? + seconds(&pid.to_string(), &CHILDREN)?)
}

fn seconds(pid: &str, fields: &[usize]) -> anyhow::Result<f64> {
    let stat = stat(pid).with_context(|| format!("the process {pid} has ended"))?;
    let ticks = fields.iter().map(|field| stat[*field].parse::<u32>());
    let ticks: u32 = ticks.sum::<Result<_, _>>()?;
    Ok(f64::from(ticks) / 100.0)
}

/// The fields after the name.
fn stat(pid: &str) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// The outcome of some work, and the most memory that a process had meanwhile with all that it
/// started, in bytes.
pub(crate) async fn watched<T>(pid: u32, work: impl Future<Output = T>) -> (T, u64) {
    let mut work = pin!(work);
    let mut interval = tokio::time::interval(SAMPLING);
    let mut most = 0;
    loop {
        tokio::select! {
            done = &mut work => return (done, most),
            _ = interval.tick() => most = most.max(memory(pid)),
        }
    }
}

/// Resident memory in bytes, as Linux tells it (`proc(5)`).
pub(crate) fn resident(pid: Option<u32>) -> anyhow::Result<u64> {
    let pid = pid.context("the process has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .context("the kernel does not tell the resident memory")?;
    Ok(kilobytes * 1024)
}

/// What a process and all below it have in memory.
fn memory(root: u32) -> u64 {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in folders.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok()) {
        let parent = stat(&pid.to_string()).and_then(|stat| stat.get(PARENT)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut sum, mut rest) = (0, vec![root]);
    while let Some(pid) = rest.pop() {
        // One that has just ended has nothing any more.
        sum += resident(Some(pid)).unwrap_or_default();
        rest.extend(children.remove(&pid).into_iter().flatten());
    }
    sum
}
