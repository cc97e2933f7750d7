package sim

import "slices"

// mostOutbox is how many operations wait for room in a connection's queue at most: for each slot of the ring its bytes, slots,
// flush, and what tells of them, and some.
const mostOutbox = 8 * ringSlots

// bounded checks, after each round of a member's loop, that it holds no more in memory than its configuration and those who
// wait for it explain (Bounded).
func (k *checker) bounded(m *member) {
	if k == nil || m.eng == nil || k.r.now < m.paused {
		return
	}
	r := k.r
	s := m.eng.Sizes()
	asked := 0
	for _, c := range r.clients {
		if c.m == m && c.runs == m.runs {
			asked += len(c.open)
		}
	}
	for _, l := range m.inbox {
		if l.op != nil {
			asked--
		}
	}
	wrong := func(what string, have, most int) {
		if have > most {
			r.fail("Bounded", "%s holds %d %s, but %d are explained", m.name, have, what, most)
		}
	}
	// Each request that was submitted and not completed is in one place.
	if have := s.Requests(); have != asked+s.Lent {
		r.fail("Bounded", "%s holds %d requests, but %d of its clients and %d of other members wait: %+v", m.name, have, asked, s.Lent, s)
	}
	wrong("queued requests", s.Queued, r.queueLimit())
	given := k.recent(m)
	if r.c.Protocol == "chain" { // reads of others that come here to be answered may have to go on to P
		for _, o := range r.members {
			given += k.recent(o)
		}
	}
	wrong("deadlines of forwarded requests", s.Deadlines, given)
	wrong("records to be asked for", s.Wanted, ringSlots)
	wrong("inputs of the core", s.Inputs, 4*ringSlots)
	wrong("operations without room", s.Outbox, mostOutbox)
	wrong("bytes of messages", int(s.Messages), mostMessages)

	st := m.st.Stats()
	wrong("pending records", int(st.Pending), ringSlots)
	wrong("entries in its index", int(st.Entries), 2*len(r.groups))
	if m.id == 0 {
		wrong("tombstones in its index", int(st.Graves), k.tombstones(m.st.DW()))
		wrong("alarms of deadlines", int(st.Alarms), k.timed())
	}
}

// mostMessages is how many bytes of messages there are for any connection: all that clients ask for and are answered in one
// time limit is less.
const mostMessages = 4 << 20

// recent is how many requests a member was given since the oldest of those whose time may not be over: one that was forwarded
// last waits behind others that were, and each has waited its time at most.
func (k *checker) recent(m *member) int {
	n, _ := slices.BinarySearch(m.given, k.r.now-2*commandTimeout-10e6)
	m.given = append(m.given[:0], m.given[n:]...)
	return len(m.given)
}

// timed is how many records with deadlines there are in the log: each has one alarm at most.
func (k *checker) timed() int {
	if len(k.log) == 0 {
		return 0
	}
	return k.log[len(k.log)-1].timed
}

// tombstones is how many there are in the log above a seq.
func (k *checker) tombstones(seq uint64) int {
	if len(k.log) == 0 || seq >= uint64(len(k.log)) {
		return 0
	}
	before := 0
	if seq > 0 {
		before = k.log[seq-1].buried
	}
	return k.log[len(k.log)-1].buried - before
}
