//! The serving process, until containerd wants it to end.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result};
use containerd_shim_protos::create_task;
use containerd_shim_protos::ttrpc::Server;

use crate::args::Args;
use crate::events::Events;
use crate::reaper::Reaper;
use crate::service::Service;
use crate::start::READY;

/// Threads that wait for calls: a `Wait` keeps one as long as its process lives, so that more are made as needed.
const SPARE_THREADS: usize = 4;

/// The names of the service: containerd 2 renamed it, and changed nothing else.
const NAMES: [&str; 2] = ["/containerd.task.v3.Task/", "/containerd.task.v2.Task/"];

/// Serves a pod's or a container's tasks.
pub fn serve(args: &Args) -> Result<()> {
    let socket = args.socket.as_deref().context("containerd calls start, which then serves")?;
    let reaper = Reaper::start()?;
    let ttrpc =
        std::env::var("TTRPC_ADDRESS").unwrap_or_else(|_| format!("{}.ttrpc", args.address));
    let address = if ttrpc.contains("://") { ttrpc } else { format!("unix://{ttrpc}") };
    let events = Events::to(address, args.namespace.clone())?;
    let (end, ends) = sync_channel(1);
    let service = Arc::new(Service::new(&args.namespace, args.debug, (reaper, events), end));
    let mut methods = HashMap::new();
    for name in NAMES {
        let made = create_task(Arc::clone(&service) as Arc<_>);
        let renamed = made.into_iter().filter_map(|(path, method)| {
            Some((format!("{name}{}", path.rsplit('/').next()?), method))
        });
        methods.extend(renamed);
    }
    let mut server = Server::new()
        .set_thread_count_min(SPARE_THREADS / 2)
        .set_thread_count_default(SPARE_THREADS)
        .set_thread_count_max(2 * SPARE_THREADS)
        .bind(&format!("unix://{}", socket.display()))?
        .register_service(methods);
    server.start()?;
    // Who started us waits for this word, and tells containerd.
    std::io::stdout().write_all(READY)?;
    std::io::stdout().flush()?;
    ends.recv().context("the service is gone")?;
    service.destroy();
    let _ = std::fs::remove_file(socket);
    // Connections end with the process; containerd does not wait for this answer.
    Ok(())
}
