//! A map that forgets what was not used for longest, so that nobody can make it grow.

use std::hash::Hash;

/// A map on the way of every event: its hash is quick, and seeded so that nobody can foresee which keys collide.
pub(crate) type QuickMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// Holds the latest `limit` entries at least and twice as many at most: when the younger generation is full, the older one is forgotten.
pub(crate) struct Generations<K, V> {
    limit: usize,
    young: QuickMap<K, V>,
    old: QuickMap<K, V>,
}

impl<K: Hash + Eq, V> Generations<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, young: QuickMap::default(), old: QuickMap::default() }
    }

    /// The entry, whose age does not change.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// The entry, which is young from now on.
    pub(crate) fn touch(&mut self, key: &K) -> Option<&mut V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// Puts an entry in; says whether a generation was forgotten for it.
    pub(crate) fn insert(&mut self, key: K, value: V) -> bool {
        self.old.remove(&key);
        let full = self.young.len() >= self.limit && !self.young.contains_key(&key);
        if full {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
        full
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut map = Generations::new(4);
        for n in 0..1000 {
            map.insert(n, n);
            assert_eq!(map.touch(&0), Some(&mut 0));
            assert!(map.len() <= 8);
        }
        assert_eq!(map.get(&998), Some(&998));
        assert_eq!(map.get(&900), None);
        assert_eq!(map.remove(&999), Some(999));
        assert_eq!(map.get(&999), None);
    }

    #[test]
    fn an_entry_is_there_once() {
        let mut map = Generations::new(1);
        map.insert('a', 1);
        assert!(map.insert('b', 2));
        assert!(map.insert('a', 3));
        assert_eq!((map.get(&'a'), map.get(&'b'), map.len()), (Some(&3), Some(&2), 2));
    }
}
