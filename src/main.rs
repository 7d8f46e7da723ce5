//! Arguments and environment in, exit code out.

use std::path::Path;
use std::process::ExitCode;

use edgevip::cli::{self, Command, Invocation};
use edgevip::config::sources::{self, Given, Sources};
use edgevip::config::{Config, Faults, LogFormat, Resolved, explain, resolve};
use edgevip::io::{logger, process, serve};
use edgevip::lab::{self, Program};
use edgevip::{shell, wire};

/// A setting, a file or this host is not as it must be; nothing was begun.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let args: Vec<_> = args.iter().map(|it| it.to_string_lossy().into_owned()).collect();
    match cli::parse(&args).map_err(|it| it.to_string()).and_then(run) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("edgevip: {}", why.trim_end());
            ExitCode::from(MISUSED)
        }
    }
}

fn run(invocation: Invocation) -> Result<ExitCode, String> {
    let flags = invocation.flags;
    match invocation.command {
        Command::Check => {
            let resolved = read(&flags);
            println!("{}", shell::check(resolved.as_ref().map_err(Faults::to_string))?);
        }
        Command::Explain => {
            let resolved = read(&flags).map_err(|it| it.to_string())?;
            print!("{}", explain::values(&resolved.explained));
            print!("{}", shell::explain_access(&resolved.config));
        }
        Command::Help(text) => print!("{text}"),
        Command::Lab(options) => {
            let program = Program::edgevip(options.vips, options.profile.as_deref());
            return lab::run(&options, program).map(ExitCode::from);
        }
        Command::Manager => manage(flags)?,
        Command::Replay(path) => shell::replay(&path)?,
        Command::Status { json, instance } => show_status(json, instance.as_deref())?,
        Command::Version => print!("{}", cli::version()),
    }
    Ok(ExitCode::SUCCESS)
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

fn show_status(json: bool, instance: Option<&str>) -> Result<(), String> {
    let variable = std::env::var("instance_name").ok().filter(|it| !it.is_empty());
    let instance = instance.or(variable.as_deref()).unwrap_or("edgevip");
    let paths = serve::socket_paths(instance);
    let answer = serve::ask_socket(instance, &paths).map_err(|it| it.to_string())?;
    let status = wire::status::parse(&answer)?;
    if json {
        println!("{answer}");
    } else {
        print!("{}", wire::status::text(&status));
    }
    Ok(())
}

fn read(flags: &[Given]) -> Result<Resolved, Faults> {
    let env = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    resolve(&Sources {
        flags: flags.to_vec(),
        env: env.collect(),
        hostname: process::hostname(),
        read: &|path: &Path| sources::read(path),
    })
}
