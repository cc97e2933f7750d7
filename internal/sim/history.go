package sim

import (
	"slices"
	"strings"
)

// history is what clients have seen of one key, as far as it decides about what they may see: all explanations of it. An
// explanation is an order of the operations that began, of which each takes effect between its call and its return; what
// is kept of it is the value at its end, and what came of those that have no answer yet. A history without an explanation is
// not linearizable (Wing and Gong, "Testing and Verifying Concurrent Objects", 1993). Two histories with the same
// explanations have the same futures, however they came about.
type history struct {
	explained []explanation // sorted, without duplicates
	writes    []bool        // which operations write; the others read
	ends      int           // how many operations have ended
}

// mostHistory bounds the operations of a scope.
const mostHistory = 8

// explanation: values are numbered by the operations that write them, from 1 on; 0 is no value.
type explanation struct {
	value uint8
	ops   [mostHistory]uint8
}

const (
	unborn   uint8 = iota // not called, or answered, or never to be explained
	pending               // called
	effected              // and it has taken effect: plus what it read
)

func newHistory(writes []bool) history {
	return history{explained: []explanation{{}}, writes: writes}
}

func (h *history) append(dst []byte) []byte {
	dst = append(dst, byte(len(h.explained)))
	for i := range h.explained {
		dst = append(append(dst, h.explained[i].value), h.explained[i].ops[:len(h.writes)]...)
	}
	return dst
}

// called: an operation begins.
func (h *history) called(i int) {
	for k := range h.explained {
		h.explained[k].ops[i] = pending
	}
}

// answered: an operation has its answer: the number of the value that it read, or wrote. False: nothing explains it.
func (h *history) answered(i int, value uint8) bool {
	var next []explanation
	for _, e := range h.explained {
		h.explain(e, i, value, &next)
	}
	h.set(next)
	return len(next) > 0
}

// explain lets operations without an answer take effect, in any order, until the i-th has.
func (h *history) explain(e explanation, i int, value uint8, next *[]explanation) {
	if e.ops[i] >= effected {
		if e.ops[i]-effected == value {
			e.ops[i] = unborn
			*next = append(*next, e)
		}
		return
	}
	for k := range h.writes {
		if e.ops[k] != pending {
			continue
		}
		after := e
		if h.writes[k] {
			after.value = uint8(k) + 1
		}
		after.ops[k] = effected + after.value
		h.explain(after, i, value, next)
	}
}

// void: an operation has not taken effect and never will, or nobody will ever know what it read. False:
// nothing explains that.
func (h *history) void(i int) bool {
	next := h.explained[:0]
	for _, e := range h.explained {
		if h.writes[i] && e.ops[i] >= effected {
			continue
		}
		e.ops[i] = unborn
		next = append(next, e)
	}
	h.set(next)
	return len(next) > 0
}

// unknown: nobody will ever know how an operation ended. It may have taken effect, or take it later.
func (h *history) unknown(i int) {
	for k := range h.explained {
		if e := &h.explained[k]; e.ops[i] >= effected {
			e.ops[i] = unborn
		}
	}
	h.set(h.explained)
}

func (h *history) set(all []explanation) {
	slices.SortFunc(all, func(a, b explanation) int {
		if a.value != b.value {
			return int(a.value) - int(b.value)
		}
		return slices.Compare(a.ops[:], b.ops[:])
	})
	h.explained = slices.Compact(all)
}

// valueOf is the number of the value that an answer of the i-th operation shows; false: it shows none that was ever written.
func (h *history) valueOf(i int, reply string) (uint8, bool) {
	if h.writes[i] {
		return uint8(i) + 1, reply == "+OK"
	}
	if reply == "_" {
		return 0, true
	}
	n := valueNumber(strings.TrimPrefix(reply, "$"))
	return uint8(n), n > 0 && n <= len(h.writes) && h.writes[n-1]
}
