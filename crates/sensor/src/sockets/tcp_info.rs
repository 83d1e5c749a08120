//! The kernel's `struct tcp_info` (linux/tcp.h), which grows at its end with every other release.

use super::State;
use crate::observation::Traffic;

const BYTES_ACKED: usize = 120; // Linux 4.1
const BYTES_RECEIVED: usize = 128; // Linux 4.1
const SEGS_OUT: usize = 136; // Linux 4.2
const SEGS_IN: usize = 140; // Linux 4.2
const BYTES_SENT: usize = 200; // Linux 4.19
const BYTES_RETRANS: usize = 208; // Linux 4.19

/// The traffic that it tells of; `None` where the kernel is too old.
pub(super) fn traffic(info: &[u8], state: State) -> Option<Traffic> {
    let sent = match (wide(info, BYTES_SENT), wide(info, BYTES_RETRANS)) {
        (Some(sent), Some(again)) => sent.saturating_sub(again),
        _ => wide(info, BYTES_ACKED)?,
    };
    let received = wide(info, BYTES_RECEIVED)?;
    Some(Traffic {
        bytes_sent: sent,
        // The kernel counts the segment that ends the stream as a byte.
        bytes_received: received.saturating_sub(u64::from(state.has_received_fin())),
        packets_sent: u64::from(narrow(info, SEGS_OUT)?),
        packets_received: u64::from(narrow(info, SEGS_IN)?),
    })
}

fn wide(info: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(info.get(offset..offset + 8)?.try_into().ok()?))
}

fn narrow(info: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(info.get(offset..offset + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_kernel_tells_less() {
        let mut info = vec![0; 216];
        for (offset, value) in
            [(BYTES_ACKED, 11u64), (BYTES_RECEIVED, 20), (BYTES_SENT, 15), (BYTES_RETRANS, 5)]
        {
            info[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        }
        let bytes = |length: usize, state| {
            traffic(&info[..length], state).map(|traffic| (traffic.bytes_sent, traffic.bytes_received))
        };
        assert_eq!(bytes(216, State::Established), Some((10, 20)));
        assert_eq!(bytes(200, State::CloseWait), Some((11, 19)));
        assert_eq!(bytes(120, State::Established), None);
        assert_eq!(bytes(0, State::Established), None);
    }
}
