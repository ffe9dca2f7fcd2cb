//! How the sender sees what keys of calls may be bound to: it decides where half of them go, and the receiver goes by what it
//! was told.

use crate::base::ResourceId;

/// Appends whether the sender places calls, and what is down for it.
pub fn write(places: bool, down: impl Iterator<Item = ResourceId>, payload: &mut Vec<u8>) {
    payload.push(u8::from(places));
    down.for_each(|resource| payload.extend_from_slice(&resource.0.to_be_bytes()));
}

/// What a payload says; `None`: nothing. A tail that is too short is left out.
pub fn read(payload: &[u8]) -> Option<(bool, impl Iterator<Item = ResourceId>)> {
    let (places, down) = payload.split_first()?;
    let (ids, _) = down.as_chunks::<8>();
    Some((*places != 0, ids.iter().map(|id| ResourceId(u64::from_be_bytes(*id)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_down_is_read_as_it_was_written() {
        let down = [ResourceId(7), ResourceId(u64::MAX - 1)];
        let mut payload = Vec::new();
        write(true, down.into_iter(), &mut payload);
        let rows = |payload: &[u8]| read(payload).map(|(places, down)| (places, down.collect::<Vec<_>>()));
        assert_eq!(rows(&payload), Some((true, down.to_vec())));
        assert_eq!(rows(&payload[..payload.len() - 1]), Some((true, down[..1].to_vec())), "the last one is cut");
        payload.clear();
        write(false, [].into_iter(), &mut payload);
        assert_eq!(rows(&payload), Some((false, vec![])));
        assert_eq!(rows(&[]), None);
    }
}
