//! The kernel's messages about devices: NETLINK_KOBJECT_UEVENT, group 1.
//!
//! Any process with CAP_NET_ADMIN may send to the address of such a socket. What does not come from the kernel is told by the sender's address
//! and credentials, both of which the kernel fills in, and is dropped.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessageOwned, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
        UnixCredentials, bind, recvmsg, setsockopt, socket, sockopt,
    },
};

/// A message has at most 2 KiB of variables after its path (UEVENT_BUFFER_SIZE, include/linux/kobject.h).
const MESSAGE: usize = 16 << 10;
/// What may wait in the socket; a hub full of devices is some hundred messages.
const RECEIVE_BUFFER: usize = 4 << 20;

/// `KEY=VALUE`, each ended by NUL (a message) or by a newline (a `uevent` file).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Variables(pub(super) Vec<u8>);

impl Variables {
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let mut variables = self.0.split(|byte| matches!(byte, 0 | b'\n'));
        variables.find_map(|v| v.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
    }

    /// A value that is text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.get(key)?).ok()
    }
}

/// What the kernel says happened to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uevent {
    /// `add`, `remove`, `change`, `move`, `bind`, `unbind`, `online`, `offline`.
    pub(super) action: Vec<u8>,
    /// The directory of the device below /sys; begins with `/devices/`.
    pub(super) path: Vec<u8>,
    /// What else is said.
    pub(super) variables: Variables,
}

impl Uevent {
    /// Somebody asked for it by writing to the `uevent` file: the device is as it was.
    pub(super) fn is_synthetic(&self) -> bool {
        self.variables.get("SYNTH_UUID").is_some()
    }
}

/// What a message is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Event(Uevent),
    /// The kernel's, but not about a device.
    Other,
    /// Not the kernel's.
    Forged,
    /// Not as the kernel writes them.
    Malformed,
}

/// The socket.
pub(super) struct Uevents {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Uevents {
    /// From now on messages wait to be received.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        let socket = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN.
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1))?;
        Ok(Self { socket, buffer: vec![0; MESSAGE] })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next message; `None` when there is none yet. ENOBUFS: some did not fit into the socket's buffer.
    pub(super) fn receive(&mut self) -> Result<Option<Message>, Errno> {
        let mut control = cmsg_space!(UnixCredentials);
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let fd = self.socket.as_raw_fd();
        let received = match recvmsg::<NetlinkAddr>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_TRUNC) {
            Ok(received) => received,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let kernels_address = received.address.is_some_and(|sender| sender.pid() == 0);
        let kernels_credentials = received.cmsgs().is_ok_and(|mut messages| {
            messages.any(|message| {
                matches!(message, ControlMessageOwned::ScmCredentials(c) if c.pid() == 0 && c.uid() == 0)
            })
        });
        let (length, flags) = (received.bytes, received.flags);
        if !kernels_address || !kernels_credentials {
            return Ok(Some(Message::Forged));
        }
        if flags.contains(MsgFlags::MSG_TRUNC) {
            return Ok(Some(Message::Malformed));
        }
        Ok(Some(self.buffer.get(..length).map_or(Message::Malformed, parse)))
    }
}

/// Reads `ACTION@PATH`, NUL, variables.
pub(super) fn parse(bytes: &[u8]) -> Message {
    let mut halves = bytes.splitn(2, |byte| *byte == 0);
    let (Some(header), Some(variables)) = (halves.next(), halves.next()) else { return Message::Malformed };
    let Some(at) = header.iter().position(|byte| *byte == b'@') else { return Message::Malformed };
    let (action, path) = (&header[..at], &header[at + 1..]);
    if action.is_empty() || !path.starts_with(b"/") {
        return Message::Malformed;
    }
    if !path.starts_with(b"/devices/") {
        return Message::Other;
    }
    if !is_plain(path) {
        return Message::Malformed;
    }
    let variables = Variables(variables.to_vec());
    Message::Event(Uevent { action: action.to_vec(), path: path.to_vec(), variables })
}

/// Whether a path leads nowhere but down.
pub(super) fn is_plain(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').skip(1).all(|part| !matches!(part, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{getsockname, sendto};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_of_the_kernel_is_read() {
        let bytes = b"add@/devices/pci0000:00/usb1/1-1\0ACTION=add\0DEVPATH=/devices/pci0000:00/usb1/1-1\0SUBSYSTEM=usb\0DEVTYPE=usb_device\0";
        let Message::Event(event) = parse(bytes) else { panic!() };
        assert_eq!((&event.action[..], &event.path[..]), (&b"add"[..], &b"/devices/pci0000:00/usb1/1-1"[..]));
        assert_eq!(event.variables.text("SUBSYSTEM"), Some("usb"));
        assert_eq!(event.variables.get("SUB"), None);
        assert!(!event.is_synthetic());
    }

    #[test]
    fn what_the_kernel_would_not_write_is_malformed() {
        for strange in [
            &b""[..],
            b"add",
            b"add\0X=1\0",
            b"@/devices/a\0",
            b"add@devices/a\0",
            b"add@\0",
            b"add@/devices/../../etc\0",
            b"add@/devices//a\0",
            b"libudev\0\xfe\xed\xca\xfe",
        ] {
            assert_eq!(parse(strange), Message::Malformed, "{}", String::from_utf8_lossy(strange));
        }
        assert_eq!(parse(b"add@/module/loop\0ACTION=add\0"), Message::Other);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Message::Event(event) = parse(&bytes) {
                prop_assert!(is_plain(&event.path));
                event.variables.get("SUBSYSTEM");
            }
        }
    }

    #[test]
    fn what_a_process_sends_is_told_from_what_the_kernel_sends() {
        let mut uevents = Uevents::open().unwrap();
        let address: NetlinkAddr = getsockname(uevents.socket.as_raw_fd()).unwrap();
        let forger = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::empty(),
            SockProtocol::NetlinkKObjectUEvent,
        )
        .unwrap();
        let message = b"add@/devices/forged\0ACTION=add\0DEVPATH=/devices/forged\0SUBSYSTEM=usb\0";
        let to = NetlinkAddr::new(address.pid(), 0);
        // Needs CAP_NET_ADMIN: who has it not cannot even send.
        let sent = sendto(forger.as_raw_fd(), message, &to, MsgFlags::empty());
        let huge = vec![b'x'; 3 * MESSAGE];
        let sent_huge = sendto(forger.as_raw_fd(), &huge, &to, MsgFlags::empty());
        let mut forged = 0;
        while let Ok(Some(message)) = uevents.receive() {
            assert!(!matches!(&message, Message::Event(event) if event.path == b"/devices/forged"));
            forged += usize::from(message == Message::Forged);
        }
        assert_eq!(forged, usize::from(sent.is_ok()) + usize::from(sent_huge.is_ok()));
    }
}
