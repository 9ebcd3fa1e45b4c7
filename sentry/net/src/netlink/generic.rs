//! Generic netlink: the controller, which knows of no family but itself (genetlink(7); net/netlink/genetlink.c).

use sentry_abi::Errno;
use sentry_abi::netlink::*;

use super::build::{DumpEnd, Message};
use super::parse::{Refusal, Request, Rule, Shape, Strictness};
use super::table::{Answer, Context, Dump, Protocol};

/// The controller's name.
const NAME: &str = "nlctrl";
const POLICY: &[Rule] =
    &[(CTRL_ATTR_FAMILY_ID, Shape::Number(2)), (CTRL_ATTR_FAMILY_NAME, Shape::Text(15))];

/// genl_rcv_msg: ENOENT for a family that is not there, EOPNOTSUPP for a command that it does not have.
pub fn dispatch(
    protocol: &Protocol,
    cx: &Context<'_>,
    request: &Request<'_>,
) -> Result<Answer, Refusal> {
    let row = protocol.row(request.header.kind).ok_or(Errno::ENOENT)?;
    let header: GenlMsgHdr = request.fixed()?;
    if header.command != CTRL_CMD_GETFAMILY {
        return Err(Errno::EOPNOTSUPP.into());
    }
    match (request.header.flags & NLM_F_DUMP == NLM_F_DUMP, row.doit, row.dumpit) {
        (true, _, Some(dumpit)) => {
            let mut dump = Dump::default();
            dumpit(cx, request, &mut dump)?;
            Ok(Answer::Dump(dump.messages, DumpEnd::default()))
        }
        (false, Some(doit), _) => doit(cx, request).map(Answer::Messages),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

fn controller(request: &Request<'_>) -> Message {
    let fixed = GenlMsgHdr { command: CTRL_CMD_NEWFAMILY, version: 2, reserved: 0 };
    let mut message = Message::new(GENL_ID_CTRL, &request.header, &fixed);
    message.string(CTRL_ATTR_FAMILY_NAME, NAME);
    message.attribute(CTRL_ATTR_FAMILY_ID, &GENL_ID_CTRL.to_ne_bytes());
    message.number(CTRL_ATTR_VERSION, 2);
    message.number(CTRL_ATTR_HDRSIZE, 0);
    message.number(CTRL_ATTR_MAXATTR, 10);
    let operations = message.nest(CTRL_ATTR_OPS);
    let first = message.nest(1);
    message.number(CTRL_ATTR_OP_ID, u32::from(CTRL_CMD_GETFAMILY));
    // GENL_CMD_CAP_DO, GENL_CMD_CAP_DUMP, GENL_CMD_CAP_HASPOL
    message.number(CTRL_ATTR_OP_FLAGS, 0xe);
    message.end(first);
    message.end(operations);
    message
}

/// CTRL_CMD_GETFAMILY of a number or a name. Errors: EINVAL, ENOENT.
pub fn one(_: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let attributes = request.attributes::<GenlMsgHdr>(POLICY, Strictness::Liberal)?;
    let id = attributes.find(CTRL_ATTR_FAMILY_ID);
    let name = attributes.find(CTRL_ATTR_FAMILY_NAME);
    let found = match (id, name) {
        (None, None) => return Err(Errno::EINVAL.into()),
        (_, Some(name)) => name.text() == NAME.as_bytes(),
        (Some(id), None) => id.number() == u32::from(GENL_ID_CTRL),
    };
    if found { Ok(vec![controller(request)]) } else { Err(Errno::ENOENT.into()) }
}

/// All families.
pub fn all(_: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    dump.messages.push(controller(request));
    Ok(())
}
