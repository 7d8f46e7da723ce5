//! Arguments and environment in, exit code out.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use edgevip::cli::{self, Command, Example, FromUci, Invocation, Order};
use edgevip::config::sources::{self, Given, Sources};
use edgevip::config::{Config, Faults, LogFormat, Resolved, explain, resolve, uci};
use edgevip::io::{crash, logger, process, serve};
use edgevip::lab;
use edgevip::manifest::{self, Wish};
use edgevip::model::{ClusterCall, NodeName, Status, Vip};
use edgevip::{shell, wire};

/// One heap for all threads, that joins what is free and gives it back: what a list leaves behind
/// is no multiple of what is kept of it, whatever libc is linked.
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// What was asked of a running process was not done.
const FAILED: u8 = 1;
/// A setting, a file or this host is not as it must be; nothing was begun.
const MISUSED: u8 = 2;

/// Why it did not go well, and how the process ends.
struct Failure {
    why: String,
    code: u8,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, code: MISUSED }
    }
}

fn main() -> ExitCode {
    crash::tell();
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let args: Vec<_> = args.iter().map(|it| it.to_string_lossy().into_owned()).collect();
    match cli::parse(&args).map_err(|it| it.to_string().into()).and_then(run) {
        Ok(code) => code,
        Err(Failure { why, code }) => {
            eprintln!("edgevip: {}", why.trim_end());
            ExitCode::from(code)
        }
    }
}

fn run(invocation: Invocation) -> Result<ExitCode, Failure> {
    let flags = invocation.flags;
    match invocation.command {
        Command::Check => {
            let resolved = read(&flags);
            println!("{}", shell::check(resolved.as_ref().map_err(Faults::to_string))?);
        }
        Command::FromUci(it) => print!("{}", from_uci(it)?),
        Command::Explain => {
            let resolved = read(&flags).map_err(|it| it.to_string())?;
            print!("{}", explain::values(&resolved.explained));
            print!("{}", shell::explain_access(&resolved.config));
        }
        Command::Help(text) => print!("{text}"),
        Command::Lab(options) => return Ok(play(&options).map(ExitCode::from)?),
        Command::Manager => manage(flags)?,
        Command::Manifest(wish) => print_manifest(&wish, &flags).map_err(|it| it.to_string())?,
        Command::Members { json, instance } => {
            show_members(json, instance.as_deref()).map_err(failed)?;
        }
        Command::Order { order, instance } => {
            println!("{}", give(order, instance.as_deref()).map_err(failed)?);
        }
        Command::Replay(path) => shell::replay(&path)?,
        Command::Sample(Example::Config) => print!("{}", manifest::SAMPLE_CONFIG),
        Command::Sample(Example::Manifest) => {
            println!("{}", manifest::sample().map_err(|it| it.to_string())?.yaml);
        }
        Command::Pools { json, instance } => show_pools(json, instance.as_deref())?,
        Command::Status { json, instance } => show_status(json, instance.as_deref())?,
        Command::Version => print!("{}", cli::version()),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "lab")]
fn play(options: &lab::Options) -> Result<u8, String> {
    let program = lab::Program::edgevip(options.vips, options.profile.as_deref());
    lab::run(options, program)
}

#[cfg(not(feature = "lab"))]
fn play(_: &lab::Options) -> Result<u8, String> {
    Err("lab: this build leaves the laboratory out; take one with the feature lab".into())
}

/// The text of a configuration file that says the same as that one of OpenWrt.
fn from_uci(FromUci { file, network }: FromUci) -> Result<String, String> {
    let text = sources::read(&file).map_err(|it| format!("{}: {it}", file.display()))?;
    let networks = network.into_iter().collect();
    let it = uci::from_uci(&text, &networks, &sources(&[])).map_err(|it| it.to_string())?;
    for warning in it.warnings {
        eprintln!("edgevip: {warning}");
    }
    Ok(it.toml)
}

fn print_manifest(wish: &Wish, flags: &[Given]) -> Result<(), Faults> {
    let written = manifest::write(wish, flags, &environment(), &sources::read)?;
    for note in &written.notes {
        eprintln!("edgevip: warning: {note}");
    }
    println!("{}", written.yaml);
    Ok(())
}

fn manage(flags: Vec<Given>) -> Result<(), String> {
    let resolved = read(&flags).map_err(|it| it.to_string())?;
    let format = match resolved.config.log_format {
        LogFormat::Json => logger::Format::Json,
        LogFormat::Text => logger::Format::Text,
    };
    logger::init(resolved.config.log_level, format).map_err(|it| it.to_string())?;
    log::info!(build = edgevip::BUILD; "edgevip {}", edgevip::VERSION);
    for info in &resolved.infos {
        log::info!("{info}");
    }
    for warning in &resolved.warnings {
        log::warn!("{warning}");
    }
    let again = move || -> Result<Config, String> {
        read(&flags).map(|it| it.config).map_err(|it| it.to_string())
    };
    shell::run(resolved.config, again)
}

fn failed(why: String) -> Failure {
    Failure { why, code: FAILED }
}

fn show_members(json: bool, instance: Option<&str>) -> Result<(), String> {
    let (_, status) = ask(&named(instance))?;
    let quorum = status.quorum.ok_or(NO_MEMBERS)?;
    if json {
        println!("{}", wire::status::members_json(&quorum));
    } else {
        print!("{}", wire::status::members(&quorum));
    }
    Ok(())
}

const NO_MEMBERS: &str = "that node elects by a Kubernetes Lease; there are no members";

fn give(order: Order, instance: Option<&str>) -> Result<String, String> {
    let instance = named(instance);
    // Whoever names no node means the one that is asked.
    let node = |name: Option<String>| match name {
        Some(name) => Ok(NodeName(name.to_lowercase().into())),
        None => ask(&instance).map(|(_, status)| status.node),
    };
    let call = match order {
        Order::Add { name, address, witness } => {
            ClusterCall::Add { name: node(Some(name))?, address, witness }
        }
        Order::Drain(name) => ClusterCall::Drain(node(name)?),
        Order::Move { vip, node: to } => ClusterCall::Move(Vip(vip), node(Some(to))?),
        Order::Promote(name) => ClusterCall::Promote(node(Some(name))?),
        Order::Remove(name) => ClusterCall::Remove(node(Some(name))?),
        Order::Undrain(name) => ClusterCall::Undrain(node(name)?),
        Order::Unmove(vip) => ClusterCall::Unmove(Vip(vip)),
    };
    let paths = serve::socket_paths(&instance);
    serve::order_socket(&instance, &paths, &call).map_err(|it| it.to_string())?
}

fn named(instance: Option<&str>) -> String {
    let variable = std::env::var("instance_name").ok().filter(|it| !it.is_empty());
    instance.map(str::to_owned).or(variable).unwrap_or_else(|| "edgevip".into())
}

/// The status as it came, and understood.
fn ask(instance: &str) -> Result<(String, Status), String> {
    let paths = serve::socket_paths(instance);
    let answer = serve::ask_socket(instance, &paths).map_err(|it| it.to_string())?;
    let status = wire::status::parse(&answer)?;
    Ok((answer, status))
}

fn show_pools(json: bool, instance: Option<&str>) -> Result<(), String> {
    let (_, status) = ask(&named(instance))?;
    let services = status.services.ok_or("that node serves no Services, so it knows no pools")?;
    if json {
        println!("{}", wire::pools::json(&services.pools));
    } else {
        print!("{}", wire::pools::text(&services.pools));
    }
    Ok(())
}

fn show_status(json: bool, instance: Option<&str>) -> Result<(), String> {
    let (answer, status) = ask(&named(instance))?;
    let beside = shell::beside(&status);
    if json {
        println!("{}", wire::status::beside(&answer, &beside));
    } else {
        print!("{}", wire::status::text(&status));
        beside.iter().for_each(|it| println!("warning: {it}"));
    }
    Ok(())
}

fn read(flags: &[Given]) -> Result<Resolved, Faults> {
    resolve(&sources(flags))
}

fn sources(flags: &[Given]) -> Sources<'static> {
    Sources {
        flags: flags.to_vec(),
        env: environment(),
        hostname: process::hostname(),
        read: &|path: &Path| sources::read(path),
        is_open: &sources::is_open,
    }
}

fn environment() -> BTreeMap<String, String> {
    let env = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    env.collect()
}
