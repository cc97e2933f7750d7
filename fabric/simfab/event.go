package simfab

import (
	"fmt"
	"sort"

	"whale/fabric"
)

// Event is an operation that was posted and has not landed. It is a copy: to name it to the Network is its only use later.
type Event struct {
	ID       uint64 // 1, 2, ... in post order over the whole network
	From, To string // endpoints
	Kind     fabric.Kind
	Flags    fabric.Flags
	Key      fabric.Key // remote; 0 for Send and Fence
	Off, Len uint64     // remote; Len is 8 for words
	A, B     uint64
	OpID     uint64
	// Completed: the poster has been told that it is done, or would have been were it Signaled.
	Completed bool

	op  *op
	net *Network
}

func (o *op) event() Event {
	e := Event{
		ID: o.id, From: o.c.ep.name, To: o.c.peer.ep.name, Kind: o.Kind, Flags: o.Flags, Key: o.Remote.Key, Off: o.Remote.Off, Len: o.Len,
		A: o.A, B: o.B, OpID: o.ID, Completed: o.completed, op: o, net: o.c.net,
	}
	switch o.Kind {
	case fabric.Write8, fabric.CompareSwap, fabric.FetchAdd:
		e.Len = 8
	case fabric.Send, fabric.Fence:
		e.Key, e.Off = 0, 0
	}
	return e
}

// String is as "17 P->B1 write 64B @ring+128".
func (e Event) String() string {
	s := fmt.Sprintf("%d %s->%s %s", e.ID, e.From, e.To, kindName(e.Kind))
	switch e.Kind {
	case fabric.Write, fabric.Read:
		s += fmt.Sprintf(" %dB", e.Len)
	case fabric.Write8:
		s += fmt.Sprintf(" %#x", e.A)
	case fabric.Flush:
		if e.A == fabric.Durable {
			s += " durable"
		} else {
			s += " visible"
		}
		if e.B == fabric.Region {
			return s + " @" + e.net.keyName(e.Key)
		}
		s += fmt.Sprintf(" %dB", e.Len)
	case fabric.Send:
		return s + fmt.Sprintf(" %dB", e.Len)
	case fabric.Fence:
		if e.A == fabric.Durable {
			s += " durable"
		}
		return s
	}
	return s + fmt.Sprintf(" @%s+%d", e.net.keyName(e.Key), e.Off)
}

func (n *Network) keyName(key fabric.Key) string {
	if name, ok := n.labels[key]; ok {
		return name
	}
	return fmt.Sprintf("%#x", uint64(key))
}

func kindName(k fabric.Kind) string {
	names := [...]string{"kind 0", "write", "read", "write8", "compareswap", "fetchadd", "flush", "fence", "send", "recv"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", k)
}

// Match chooses events.
type Match func(Event) bool

// From chooses what the endpoint has posted.
func From(name string) Match { return func(e Event) bool { return e.From == name } }

// To chooses what is on its way to the endpoint.
func To(name string) Match { return func(e Event) bool { return e.To == name } }

// Is chooses operations of these kinds.
func Is(kinds ...fabric.Kind) Match {
	return func(e Event) bool {
		for _, k := range kinds {
			if e.Kind == k {
				return true
			}
		}
		return false
	}
}

// On chooses what touches [off, off+n) of the memory under a key. (A Flush of the whole region does.)
func On(key fabric.Key, off, n uint64) Match {
	return func(e Event) bool {
		if e.Key != key || key == 0 {
			return false
		}
		return e.Kind == fabric.Flush && e.B == fabric.Region || e.Off < off+n && off < e.Off+e.Len
	}
}

func (e Event) matches(all []Match) bool {
	for _, m := range all {
		if !m(e) {
			return false
		}
	}
	return true
}

// Pending lists, in post order, what has not landed and all of the matches choose.
func (n *Network) Pending(match ...Match) []Event {
	var out []Event
	for _, c := range n.active {
		for pos := c.first; pos < c.posted.tail; pos++ {
			if o := *c.posted.at(pos); !o.landed {
				if e := o.event(); e.matches(match) {
					out = append(out, e)
				}
			}
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}
