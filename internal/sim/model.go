package sim

import (
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// state is what the two keys of a group hold; "" is nothing.
type state [2]string

// model says what a group of keys may answer: the commands of an operation take effect together, at one moment between its
// call and its return, or never if nobody knows how it ended.
var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, input, _ any) (bool, any) {
		next, ok := input.(*op).apply(s.(state))
		return ok, next
	},
}

// apply is the state after an operation. False: from this state it could not have been answered as it was.
func (o *op) apply(s state) (state, bool) {
	known := o.fate == done
	before, n := s, 0
	for i := range o.subs {
		c := &o.subs[i]
		reply := ""
		if known && c.kind != expect {
			reply = o.replies[n]
			if o.form == array {
				n++
			}
		}
		if c.kind == expect && !known && s[c.key] != c.arg {
			return before, true // it was refused, if it ever came to it
		}
		if v := s[c.key]; known && v != "" && v[0] == 't' && reply == "_" && o.mayBeGone(v) {
			s[c.key] = "" // its time was over; whoever saw whether it is there decides
		}
		if !c.apply(&s, reply, known) {
			return before, false
		}
	}
	return s, true
}

func (c *sub) apply(s *state, reply string, known bool) bool {
	v := &s[c.key]
	was := func() string {
		if *v == "" {
			return "_"
		}
		return "$" + *v
	}
	is := func(want string) bool { return !known || reply == want }
	switch c.kind {
	case get:
		return is(was())
	case expect:
		return *v == c.arg
	case set:
		*v = c.arg
		return is("+OK")
	case swap:
		ok := is(was())
		*v = c.arg
		return ok
	case setnx:
		if *v != "" {
			return is(":0")
		}
		*v = c.arg
		return is(":1")
	case del:
		if *v == "" {
			return is(":0")
		}
		*v = ""
		return is(":1")
	case incr:
		*v = increment(*v)
		return is(":" + *v)
	case flush:
		*s = state{}
		return is("+OK")
	}
	return false
}

// increment adds one to a decimal number without a sign.
func increment(n string) string {
	b := []byte(n)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != '9' {
			b[i]++
			return string(b)
		}
		b[i] = '0'
	}
	return "1" + string(b)
}

// linearizable checks the history of every group. It names one that is not; unsure counts those for which the time did not
// suffice.
func (r *run) linearizable(limit time.Duration) (bad *group, unsure int) {
	var ops []porcupine.Operation
	for _, g := range r.groups {
		ops = ops[:0]
		var first, last int64 = math.MaxInt64, 0
		add := func(o *op) {
			if o.fate == void {
				return
			}
			p := porcupine.Operation{ClientId: len(ops), Input: o, Call: o.call, Return: o.ret}
			if o.fate != done {
				p.Return = math.MaxInt64
			}
			ops = append(ops, p)
		}
		for _, o := range g.history {
			add(o)
			if o.fate != void {
				first, last = min(first, o.call), max(last, o.ret)
			}
		}
		for _, o := range r.flushes { // those before the group's first operation found nothing of it
			if o.fate != void && (o.fate != done || o.ret > first) && o.call < last {
				add(o)
			}
		}
		switch porcupine.CheckOperationsTimeout(model, ops, limit) {
		case porcupine.Illegal:
			return g, unsure
		case porcupine.Unknown:
			unsure++
		}
	}
	return nil, unsure
}
