//! `keepgate jobs`: asks the running gateway on its admin listener. If none runs, reads the jobs from
//! its file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use keepgate_http::{OperatorClient, OperatorError};
use keepgate_jobs::Job;
use serde_json::{Value, json};

use super::table;
use crate::cli::{JobsCommand, JobsList};
use crate::config::Config;
use crate::config::capability::JOBS_FILE;
use crate::output::{self, note, say};

/// How often `--wait` asks for the job.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the command. The exit code is 1 if a job that was waited for did not succeed.
pub(crate) async fn run(config: &Path, json: bool, command: JobsCommand) -> Result<u8> {
    let config = Config::load(config)?;
    let gateway = Gateway::new(&config)?;
    match command {
        JobsCommand::List(filter) => {
            let jobs = gateway.jobs(&filter).await?;
            print(json, &jobs, table::jobs)?;
        }
        JobsCommand::Schedules => {
            let schedules = gateway.schedules().await?;
            print(json, &schedules, table::schedules)?;
        }
        JobsCommand::Show { id } => {
            let job = gateway.job(&id).await?;
            print(json, &job, table::job)?;
        }
        JobsCommand::Cancel { id } => {
            let job = gateway.client.post(&format!("/jobs/{}/cancel", encoded(&id))).await;
            let job = job.map_err(|error| gateway.explain(error))?;
            print(json, &job, table::job)?;
        }
        JobsCommand::Run { schedule, wait } => {
            let target = format!("/schedules/{}/run", encoded(&schedule));
            let job = gateway.client.post(&target).await;
            let mut job = job.map_err(|error| gateway.explain(error))?;
            if wait {
                job = gateway.ended(&job).await?;
            }
            print(json, &job, table::job)?;
            return Ok(u8::from(wait && text(&job, "state") != "succeeded"));
        }
    }
    Ok(0)
}

/// The gateway of a configuration.
struct Gateway {
    client: OperatorClient,
    file: PathBuf,
}

impl Gateway {
    fn new(config: &Config) -> Result<Self> {
        let client = config.operator_client("manage jobs")?;
        Ok(Self { client, file: config.data_dir.join(JOBS_FILE) })
    }

    async fn jobs(&self, filter: &JobsList) -> Result<Value> {
        let mut target = format!("/jobs?max={}", filter.max);
        let pairs = [("mount", &filter.mount), ("kind", &filter.kind), ("state", &filter.state)];
        for (name, value) in pairs {
            if let Some(value) = value {
                target.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        match self.client.get(&target).await {
            Err(OperatorError::NotRunning { .. }) => {
                let wanted = |job: &&Job| {
                    let is = |wanted: &Option<String>, found: &str| {
                        wanted.as_deref().is_none_or(|wanted| wanted == found)
                    };
                    is(&filter.mount, &job.mount)
                        && is(&filter.kind, &job.kind)
                        && is(&filter.state, job.state.as_str())
                };
                let read = self.read().await?;
                Ok(json!(read.jobs.iter().filter(wanted).take(filter.max).collect::<Vec<_>>()))
            }
            said => said.map_err(|error| self.explain(error)),
        }
    }

    async fn schedules(&self) -> Result<Value> {
        match self.client.get("/schedules").await {
            Err(OperatorError::NotRunning { .. }) => Ok(json!(self.read().await?.schedules)),
            said => said.map_err(|error| self.explain(error)),
        }
    }

    async fn job(&self, id: &str) -> Result<Value> {
        match self.client.get(&format!("/jobs/{}", encoded(id))).await {
            Err(OperatorError::NotRunning { .. }) => {
                let read = self.read().await?;
                let job = read.jobs.iter().find(|job| job.id == id);
                Ok(json!(job.ok_or_else(|| anyhow!("unknown job {id}"))?))
            }
            said => said.map_err(|error| self.explain(error)),
        }
    }

    /// Waits for a job's end.
    async fn ended(&self, job: &Value) -> Result<Value> {
        let id = text(job, "id");
        if id.is_empty() {
            bail!("the response of the gateway contains no job");
        }
        loop {
            let job = self.client.get(&format!("/jobs/{}", encoded(id))).await;
            let job = job.map_err(|error| self.explain(error))?;
            if !matches!(text(&job, "state"), "queued" | "running") {
                return Ok(job);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads the file of jobs, which only works while no gateway runs.
    async fn read(&self) -> Result<keepgate_jobs::FileContents> {
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || keepgate_jobs::read(&file)).await??;
        note!("no gateway is running; showing what the last one saved");
        Ok(read)
    }

    fn explain(&self, error: OperatorError) -> anyhow::Error {
        match error {
            OperatorError::NotRunning { .. } => {
                anyhow::Error::from(error).context("this needs a running gateway")
            }
            error => error.into(),
        }
    }
}

fn print(json: bool, value: &Value, table: fn(&Value) -> String) -> Result<()> {
    if json {
        say!("{}", serde_json::to_string_pretty(value)?)?;
    } else {
        output::print(format_args!("{}", table(value)))?;
    }
    Ok(())
}

/// A property of a job, or an empty text.
fn text<'a>(job: &'a Value, name: &str) -> &'a str {
    job.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Percent-encoded, for a path or a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let byte = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
