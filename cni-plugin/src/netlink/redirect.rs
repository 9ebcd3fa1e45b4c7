//! Frames that come in by one link and leave by another at once: an ingress qdisc with one filter.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption,
    TcActionType, TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcMirror,
    TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};

use super::{Rtnl, RtnlError};

/// `tc qdisc add dev … ingress` has this handle.
const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0 };
/// ETH_P_ALL in network byte order, in the lower half of the filter's info; its priority is in the upper.
const ALL_PROTOCOLS: u32 = 3_u16.to_be() as u32;
const PRIORITY: u32 = 1;

impl Rtnl {
    /// Redirects every frame that comes in by a link to another one's way out. Both are indexes.
    pub(crate) fn redirect(&mut self, from: u32, to: u32) -> Result<(), RtnlError> {
        let create = NLM_F_CREATE | NLM_F_EXCL;
        self.change(RouteNetlinkMessage::NewQueueDiscipline(ingress(from)), create)?;
        let mut filter = TcMessage::with_index(index(from));
        filter.header.parent = INGRESS;
        filter.header.info = PRIORITY << 16 | ALL_PROTOCOLS;
        filter.attributes.push(TcAttribute::Kind(TcFilterU32::KIND.to_owned()));
        filter.attributes.push(TcAttribute::Options(vec![
            TcOption::U32(TcFilterU32Option::Selector(every_frame())),
            TcOption::U32(TcFilterU32Option::Action(vec![leave_by(to)])),
        ]));
        self.change(RouteNetlinkMessage::NewTrafficFilter(filter), create)
    }

    /// Takes the redirection away with all that hangs on the link's ingress.
    pub(crate) fn stop_redirect(&mut self, from: u32) -> Result<(), RtnlError> {
        self.change(RouteNetlinkMessage::DelQueueDiscipline(ingress(from)), 0)
    }

    /// Whether frames that come in by a link leave by another one.
    pub(crate) fn is_redirected(&mut self, from: u32, to: u32) -> Result<bool, RtnlError> {
        let mut query = TcMessage::with_index(index(from));
        query.header.parent = INGRESS;
        let dump = self.dump(RouteNetlinkMessage::GetTrafficFilter(query))?;
        Ok(dump.messages.iter().any(|message| match message {
            RouteNetlinkMessage::NewTrafficFilter(filter) => mirrors(filter)
                .any(|m| m.ifindex == to && m.eaction == TcMirrorActionType::EgressRedir),
            _ => false,
        }))
    }
}

fn index(link: u32) -> i32 {
    // Indexes of links are positive in the kernel.
    i32::try_from(link).unwrap_or(i32::MAX)
}

fn ingress(link: u32) -> TcMessage {
    let mut qdisc = TcMessage::with_index(index(link));
    qdisc.header.parent = TcHandle::INGRESS;
    qdisc.header.handle = INGRESS;
    qdisc.attributes.push(TcAttribute::Kind("ingress".to_owned()));
    qdisc
}

/// A key without a bit of mask fits everything.
fn every_frame() -> TcU32Selector {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys.push(TcU32Key::default());
    selector
}

fn leave_by(link: u32) -> TcAction {
    let mut action = TcAction::default();
    action.tab = 1;
    action.attributes.push(TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()));
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    (mirror.eaction, mirror.ifindex) = (TcMirrorActionType::EgressRedir, link);
    action.attributes.push(TcActionAttribute::Options(vec![TcActionOption::Mirror(
        TcActionMirrorOption::Parms(mirror),
    )]));
    action
}

fn mirrors(filter: &TcMessage) -> impl Iterator<Item = &TcMirror> {
    let options = filter.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let actions = options.flatten().filter_map(|option| match option {
        TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
        _ => None,
    });
    let options = actions.flatten().flat_map(|action| &action.attributes);
    let options = options.filter_map(|attribute| match attribute {
        TcActionAttribute::Options(options) => Some(options),
        _ => None,
    });
    options.flatten().filter_map(|option| match option {
        TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror)) => Some(mirror),
        _ => None,
    })
}
