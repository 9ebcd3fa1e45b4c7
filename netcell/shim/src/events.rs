//! What happened to tasks, told to containerd in the order in which it happened.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::ttrpc::context;
use containerd_shim_protos::{Client, EventsClient};

/// Events that wait while containerd is being restarted; of more, who causes them waits.
const WAITING: usize = 4096;
/// How often, and after which pause, an event is told again.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);
/// For one of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells events.
#[derive(Clone)]
pub struct Events {
    namespace: String,
    queue: SyncSender<Envelope>,
}

impl Events {
    /// Tells them to the containerd behind an address (ttrpc).
    pub fn to(address: String, namespace: String) -> Result<Self> {
        let (queue, waiting) = sync_channel(WAITING);
        thread::Builder::new().name("events".into()).spawn(move || forward(&address, &waiting))?;
        Ok(Self { namespace, queue })
    }

    /// Tells one.
    pub fn tell<M: Message>(&self, topic: &str, event: &M) {
        let Ok(value) = event.write_to_bytes() else { return };
        let any =
            Any { type_url: format!("containerd.events.{}", M::NAME), value, ..Any::default() };
        let envelope = Envelope {
            timestamp: MessageField::some(timestamp(SystemTime::now())),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: MessageField::some(any),
            ..Envelope::default()
        };
        // It only fails when the process ends.
        let _ = self.queue.send(envelope);
    }
}

/// A time as containerd writes it.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos() as i32,
        ..Timestamp::default()
    }
}

fn forward(address: &str, waiting: &Receiver<Envelope>) {
    let mut client = None;
    while let Ok(envelope) = waiting.recv() {
        let topic = envelope.topic.clone();
        let request =
            ForwardRequest { envelope: MessageField::some(envelope), ..ForwardRequest::default() };
        for attempt in 1..=TRIES {
            match told(address, &mut client, &request) {
                Ok(()) => break,
                Err(error) if attempt == TRIES => eprintln!("the event {topic} is lost: {error:#}"),
                Err(_) => {
                    client = None;
                    thread::sleep(PAUSE);
                }
            }
        }
    }
}

fn told(address: &str, client: &mut Option<EventsClient>, request: &ForwardRequest) -> Result<()> {
    if client.is_none() {
        *client = Some(EventsClient::new(Client::connect(address)?));
    }
    if let Some(client) = client {
        client.forward(context::with_duration(PATIENCE), request)?;
    }
    Ok(())
}
