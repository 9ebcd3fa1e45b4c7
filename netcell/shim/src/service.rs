//! The task service: containerd's calls, answered.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread;

use anyhow::{Context, Error, Result, anyhow};
use containerd_shim_protos::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse,
    DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest,
    PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest, ShutdownRequest,
    StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse,
    UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::ttrpc::{self, Code, TtrpcContext, get_status};
use containerd_shim_protos::types::task::Status;
use containerd_shim_protos::{Task, topics};
use parking_lot::Mutex;

use crate::args::is_name;
use crate::cgroup;
use crate::container::Container;
use crate::events::{Events, timestamp};
use crate::oom;
use crate::options::Options;
use crate::process::{Process, Stage};
use crate::reaper::Reaper;
use crate::runtime::Runtime;
use crate::streams::Streams;
use crate::terminal;

/// A shim's containers.
pub struct Service {
    namespace: String,
    debug: bool,
    reaper: Arc<Reaper>,
    events: Events,
    /// None: being created.
    containers: Mutex<HashMap<String, Option<Arc<Container>>>>,
    end: SyncSender<()>,
}

/// An answer, where what went wrong has the code by which containerd tells errors apart.
fn answered<T>(result: Result<T>) -> ttrpc::Result<T> {
    result.map_err(|error| {
        let text = format!("{error:#}");
        let code = match error.downcast_ref::<Refusal>() {
            Some(Refusal::NotFound) => Code::NOT_FOUND,
            Some(Refusal::Exists) => Code::ALREADY_EXISTS,
            Some(Refusal::Invalid) => Code::INVALID_ARGUMENT,
            // What containerd takes for the end of a race with an exit.
            None if text.contains("not found") || text.contains("does not exist") => {
                Code::NOT_FOUND
            }
            None => Code::UNKNOWN,
        };
        ttrpc::Error::RpcStatus(get_status(code, text))
    })
}

/// Errors that containerd must know by their kind.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    NotFound,
    Exists,
    Invalid,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::Exists => "already exists",
            Self::Invalid => "invalid argument",
        })
    }
}

fn refused(kind: Refusal, what: impl std::fmt::Display) -> Error {
    anyhow!(kind).context(what.to_string())
}

impl Service {
    /// One without containers. `end` is told when the last is gone and containerd wants it to end.
    pub fn new(
        namespace: &str,
        debug: bool,
        (reaper, events): (Arc<Reaper>, Events),
        end: SyncSender<()>,
    ) -> Self {
        let containers = Mutex::default();
        Self { namespace: namespace.to_owned(), debug, reaper, events, containers, end }
    }

    fn container(&self, id: &str) -> Result<Arc<Container>> {
        let found = self.containers.lock().get(id).cloned().flatten();
        found.ok_or_else(|| refused(Refusal::NotFound, format!("container {id}")))
    }

    fn process(&self, id: &str, exec: &str) -> Result<Arc<Process>> {
        let container = self.container(id)?;
        container.process(exec).map_err(|error| refused(Refusal::NotFound, error))
    }

    /// Waits for the end of a process, and tells it.
    fn watch(&self, process: Arc<Process>, container: &str, exec: &str, pid: u32) -> Result<()> {
        let (reaper, events) = (Arc::clone(&self.reaper), self.events.clone());
        let (container, id) = (container.to_owned(), exec.to_owned());
        let id = if id.is_empty() { container.clone() } else { id };
        thread::Builder::new().name(format!("wait {pid}")).spawn(move || {
            let exit = reaper.wait(pid as i32);
            process.ended(exit, |pid| {
                let event = TaskExit {
                    container_id: container,
                    id,
                    pid,
                    exit_status: exit.code,
                    exited_at: MessageField::some(timestamp(exit.at)),
                    ..TaskExit::default()
                };
                events.tell(topics::TASK_EXIT_EVENT_TOPIC, &event);
            });
        })?;
        Ok(())
    }

    fn make(&self, request: &CreateTaskRequest) -> Result<u32> {
        let bundle = Path::new(&request.bundle);
        if !is_name(&request.id) || !bundle.is_absolute() {
            return Err(refused(Refusal::Invalid, format!("{:?} in {:?}", request.id, bundle)));
        }
        if !request.checkpoint.is_empty() {
            return Err(refused(Refusal::Invalid, "checkpoints cannot be restored"));
        }
        let options = Options::of(request.options.as_ref())?;
        options.keep(bundle)?;
        let runtime = Runtime::new(&options, &self.namespace, self.debug, Arc::clone(&self.reaper));
        let streams = Streams {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let container = Container::create(&request.id, bundle, &request.rootfs, streams, runtime)?;
        let pid = container.init.life().pid;
        let event = TaskCreate {
            container_id: request.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: MessageField::some(TaskIO {
                stdin: request.stdin.clone(),
                stdout: request.stdout.clone(),
                stderr: request.stderr.clone(),
                terminal: request.terminal,
                ..TaskIO::default()
            }),
            pid,
            ..TaskCreate::default()
        };
        self.events.tell(topics::TASK_CREATE_EVENT_TOPIC, &event);
        self.watch(Arc::clone(&container.init), &request.id, "", pid)?;
        self.containers.lock().insert(request.id.clone(), Some(container));
        Ok(pid)
    }

    fn create_one(&self, request: &CreateTaskRequest) -> Result<u32> {
        let mut containers = self.containers.lock();
        if containers.contains_key(&request.id) {
            return Err(refused(Refusal::Exists, format!("container {}", request.id)));
        }
        containers.insert(request.id.clone(), None);
        drop(containers);
        self.make(request).inspect_err(|_| drop(self.containers.lock().remove(&request.id)))
    }

    fn start_one(&self, id: &str, exec: &str) -> Result<u32> {
        let container = self.container(id)?;
        let pid = container.start(exec, |pid| match exec {
            "" => {
                let event = TaskStart { container_id: id.to_owned(), pid, ..TaskStart::default() };
                self.events.tell(topics::TASK_START_EVENT_TOPIC, &event);
            }
            _ => {
                let event = TaskExecStarted {
                    container_id: id.to_owned(),
                    exec_id: exec.to_owned(),
                    pid,
                    ..TaskExecStarted::default()
                };
                self.events.tell(topics::TASK_EXEC_STARTED_EVENT_TOPIC, &event);
            }
        })?;
        match exec {
            "" => self.watch_memory(id, pid),
            _ => self.watch(container.process(exec)?, id, exec, pid)?,
        }
        Ok(pid)
    }

    /// Tells when memory ran out. A container that has ended at once has nothing to watch.
    fn watch_memory(&self, id: &str, pid: u32) {
        let (events, id) = (self.events.clone(), id.to_owned());
        let told = oom::watch(pid, move || {
            let event = TaskOOM { container_id: id.clone(), ..TaskOOM::default() };
            events.tell(topics::TASK_OOM_EVENT_TOPIC, &event);
        });
        if let Err(error) = told {
            eprintln!("memory that runs out is not told: {error:#}");
        }
    }

    fn delete_one(&self, id: &str, exec: &str) -> Result<DeleteResponse> {
        let container = self.container(id)?;
        let process = self.process(id, exec)?;
        if !exec.is_empty() && process.life().stage == Stage::Created {
            process.never_ran();
        }
        let exit = process.exit()?;
        let pid = process.life().pid;
        container.delete(exec)?;
        if exec.is_empty() {
            self.containers.lock().remove(id);
            let event = TaskDelete {
                container_id: id.to_owned(),
                pid,
                exit_status: exit.code,
                exited_at: MessageField::some(timestamp(exit.at)),
                ..TaskDelete::default()
            };
            self.events.tell(topics::TASK_DELETE_EVENT_TOPIC, &event);
        }
        Ok(DeleteResponse {
            pid,
            exit_status: exit.code,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..DeleteResponse::default()
        })
    }

    fn state_of(&self, id: &str, exec: &str) -> Result<StateResponse> {
        let container = self.container(id)?;
        let process = self.process(id, exec)?;
        let life = process.life();
        let status = match life.stage.status() {
            Status::RUNNING if container.is_paused.load(Ordering::Relaxed) => Status::PAUSED,
            status => status,
        };
        let mut state = StateResponse {
            id: if exec.is_empty() { id.to_owned() } else { exec.to_owned() },
            bundle: container.bundle.to_string_lossy().into_owned(),
            pid: life.pid,
            status: status.into(),
            stdin: process.streams.stdin.clone(),
            stdout: process.streams.stdout.clone(),
            stderr: process.streams.stderr.clone(),
            terminal: process.streams.terminal,
            ..StateResponse::default()
        };
        if let Stage::Stopped(exit) = life.stage {
            state.exit_status = exit.code;
            state.exited_at = MessageField::some(timestamp(exit.at));
        }
        Ok(state)
    }

    fn add_exec(&self, request: ExecProcessRequest) -> Result<()> {
        if !is_name(&request.exec_id) {
            return Err(refused(Refusal::Invalid, format!("process {:?}", request.exec_id)));
        }
        let container = self.container(&request.id)?;
        let spec = request.spec.into_option().unwrap_or_default().value;
        let streams = Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        container
            .add_exec(&request.exec_id, spec, streams)
            .map_err(|error| refused(Refusal::Exists, error))?;
        let event = TaskExecAdded {
            container_id: request.id,
            exec_id: request.exec_id,
            ..TaskExecAdded::default()
        };
        self.events.tell(topics::TASK_EXEC_ADDED_EVENT_TOPIC, &event);
        Ok(())
    }

    fn pids_of(&self, id: &str) -> Result<PidsResponse> {
        let pids = self.container(id)?.pids()?;
        let info = |pid| ProcessInfo { pid, ..ProcessInfo::default() };
        let processes = pids.into_iter().map(info).collect();
        Ok(PidsResponse { processes, ..PidsResponse::default() })
    }

    fn stats_of(&self, id: &str) -> Result<StatsResponse> {
        let container = self.container(id)?;
        let pid = container.init.pid().context("the container does not run")?;
        let metrics = match container.is_member {
            true => cgroup::told(&container.usage()?)?,
            false => cgroup::metrics(pid)?,
        };
        let any = Any {
            type_url: "io.containerd.cgroups.v1.Metrics".into(),
            value: metrics.write_to_bytes()?,
            ..Any::default()
        };
        Ok(StatsResponse { stats: MessageField::some(any), ..StatsResponse::default() })
    }

    /// Everything ends, since the shim does.
    pub fn destroy(&self) {
        for container in self.containers.lock().values().flatten() {
            container.destroy();
        }
    }
}

impl Task for Service {
    fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let pid = answered(self.create_one(&request))?;
        Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
    }

    fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        let pid = answered(self.start_one(&request.id, &request.exec_id))?;
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        answered(self.state_of(&request.id, &request.exec_id))
    }

    fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        answered(self.delete_one(&request.id, &request.exec_id))
    }

    fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> ttrpc::Result<PidsResponse> {
        answered(self.pids_of(&request.id))
    }

    fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        answered(self.container(&request.id).and_then(|container| container.pause()))?;
        let event = TaskPaused { container_id: request.id, ..TaskPaused::default() };
        self.events.tell(topics::TASK_PAUSED_EVENT_TOPIC, &event);
        Ok(Empty::default())
    }

    fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        answered(self.container(&request.id).and_then(|container| container.resume()))?;
        let event = TaskResumed { container_id: request.id, ..TaskResumed::default() };
        self.events.tell(topics::TASK_RESUMED_EVENT_TOPIC, &event);
        Ok(Empty::default())
    }

    fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        let container = answered(self.container(&request.id))?;
        answered(container.kill(&request.exec_id, request.signal, request.all))?;
        Ok(Empty::default())
    }

    fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        answered(self.add_exec(request))?;
        Ok(Empty::default())
    }

    fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> ttrpc::Result<Empty> {
        let process = answered(self.process(&request.id, &request.exec_id))?;
        let life = process.life();
        if let Some(master) = &life.master {
            answered(terminal::resize(master, request.width, request.height))?;
        }
        Ok(Empty::default())
    }

    fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> ttrpc::Result<Empty> {
        if request.stdin {
            let process = answered(self.process(&request.id, &request.exec_id))?;
            process.life().held.stdin = None;
        }
        Ok(Empty::default())
    }

    fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let resources = request.resources.into_option().unwrap_or_default().value;
        answered(self.container(&request.id).and_then(|c| c.update(&resources)))?;
        Ok(Empty::default())
    }

    fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let exit = answered(self.process(&request.id, &request.exec_id))?.wait();
        Ok(WaitResponse {
            exit_status: exit.code,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..WaitResponse::default()
        })
    }

    fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> ttrpc::Result<StatsResponse> {
        answered(self.stats_of(&request.id))
    }

    fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        let container = answered(self.container(&request.id))?;
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: container.init.life().pid,
            version: env!("CARGO_PKG_VERSION").into(),
            ..ConnectResponse::default()
        })
    }

    fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> ttrpc::Result<Empty> {
        if request.now || self.containers.lock().is_empty() {
            // A second one finds the shim on its way out.
            let _ = self.end.try_send(());
        }
        Ok(Empty::default())
    }
}
