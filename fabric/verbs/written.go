package verbs

import "whale/fabric"

// written are the ranges of the peer's memory that a connection has written and not yet flushed durably. A durable Flush of a
// region is about these bytes alone, and a device may take long over a region: soft-RoCE writes back every line of it. A
// durable Fence is about those among them that were written through.
//
// A range that finds no place is forgotten, and the next Flush of its region is one of the whole region; but what was
// written through is flushed at once, for a Fence does not know regions. So ranges of a key that the peer has withdrawn,
// which nobody flushes any more, never lead to a request under that key, unless they were written through. A key is the
// whole of it here: a card may give the rkey of one that was withdrawn to the next registration.
type written struct {
	ranges    [maxRanges]span
	n         int
	forgotten map[fabric.Key]bool
}

// span is [from, to) as the device addresses it under the key.
type span struct {
	key      fabric.Key
	through  bool
	from, to uint64
}

const (
	maxRanges = 16
	closeBy   = 256 // bytes between two ranges that are flushed along rather than kept apart
)

// add notes n bytes at addr. If it gives a range back, that is to be flushed now.
func (w *written) add(key fabric.Key, addr, n uint64, through bool) (evicted span, flush bool) {
	s := span{key, through, addr, addr + n}
	best, least := -1, ^uint64(0)
	for i := range w.ranges[:w.n] {
		r := &w.ranges[i]
		if r.key != key || r.through != through {
			continue
		}
		hull := max(r.to, s.to) - min(r.from, s.from)
		if growth := hull - (r.to - r.from); growth < least {
			best, least = i, growth
		}
	}
	switch {
	case best >= 0 && (least <= n+closeBy || w.n == maxRanges):
		r := &w.ranges[best]
		r.from, r.to = min(r.from, s.from), max(r.to, s.to)
		return span{}, false
	case w.n < maxRanges:
		w.ranges[w.n] = s
		w.n++
		return span{}, false
	}
	victim := 0
	for i := range w.ranges { // rather one that need not be flushed
		if !w.ranges[i].through {
			victim = i
			break
		}
	}
	evicted, w.ranges[victim] = w.ranges[victim], s
	if !evicted.through {
		if w.forgotten == nil {
			w.forgotten = map[fabric.Key]bool{}
		}
		w.forgotten[evicted.key] = true
		return span{}, false
	}
	return evicted, true
}

// ofRegion removes a range that belongs to key, until there is none.
func (w *written) ofRegion(key fabric.Key) (s span, ok bool) {
	return w.take(func(r *span) bool { return r.key == key })
}

// throughout removes a range that was written through, until there is none.
func (w *written) throughout() (s span, ok bool) {
	return w.take(func(r *span) bool { return r.through })
}

func (w *written) take(wanted func(*span) bool) (s span, ok bool) {
	for i := range w.ranges[:w.n] {
		if wanted(&w.ranges[i]) {
			s = w.ranges[i]
			w.n--
			w.ranges[i] = w.ranges[w.n]
			return s, true
		}
	}
	return span{}, false
}

// incomplete says whether ranges of key were forgotten, and takes that as dealt with.
func (w *written) incomplete(key fabric.Key) bool {
	if !w.forgotten[key] {
		return false
	}
	delete(w.forgotten, key)
	return true
}
