package sim

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"whale/internal/command"
	"whale/internal/shard"
)

// client is a connection at some member, and made anew whenever that is lost.
type client struct {
	r       *run
	id      int
	rng     *rand.Rand
	m       *member
	runs    uint64 // of the process that it is connected to
	conn    *command.Client
	open    []*op
	due     bool
	watched *command.Watch // the answer to WATCH; the next operation is EXEC
	seen    *op            // the GET behind WATCH

	watchedOn  *group
	watchedKey int
}

// op is one operation of a client on one group of keys: commands that take effect at once, all of them or none.
type op struct {
	shard.Request
	c        *client
	on       *member
	g        *group // nil: all of them
	subs     []sub
	form     form
	at       int64 // when it was sent
	call     int64 // and returned, in the order of all calls and returns
	ret      int64
	answered int64 // when it was, in virtual time
	fate     fate
	read     bool // may be answered by a backup
	watch    *command.Watch
	last     uint64 // WAIT: the seq of the connection's last write
	behind   *op    // the write of this connection before it, unanswered when it was sent
	replies  []string
	before   uint64 // exploring: the operations that were answered before it was asked, a bit each
	text     string // as a user would type it; only for the trace
}

type form uint8

const (
	plain   form = iota
	several      // MSET: one reply for all
	array        // MGET, EXEC
	waits        // WAIT: not part of the history
	watches      // WATCH: neither
)

type fate uint8

const (
	open    fate = iota
	done         // it was answered
	unknown      // it may or may not have taken effect, or still take it
	void         // it has not, as the answer says, or it changes nothing and nobody heard the answer
)

// sub is one command's effect on one key.
type sub struct {
	kind subKind
	key  int // in the group
	arg  string
}

type subKind uint8

const (
	get subKind = iota
	set
	setnx
	swap // SET k v GET
	del
	incr
	expect // a watched key still has this value
	flush
)

// Executed implements shard.Owner.
func (o *op) Executed(*shard.Request) {}

// Completed implements shard.Owner.
func (o *op) Completed(*shard.Request) { o.c.r.answered(o) }

// next lets a client do something.
func (r *run) next(c *client) {
	c.due = false
	if c.m != nil && (c.m.eng == nil || c.m.runs != c.runs) {
		c.m = nil
	}
	if c.m == nil {
		m := r.members[c.rng.IntN(len(r.members))]
		if m.eng == nil {
			r.later(c, 10*r.latency())
			return
		}
		c.m, c.runs, c.watched, c.seen = m, m.runs, nil, nil
		c.conn = newConn(c)
	}
	if o := r.choose(c); o != nil {
		r.send(c, o)
		if o.form < waits && c.watched == nil && len(c.open) < 3 && c.rng.IntN(4) == 0 {
			r.later(c, 1)
		}
	}
}

func newConn(c *client) *command.Client { return &command.Client{ID: uint64(c.id + 1), Proto: 2} }

// later lets a client go on after a while.
func (r *run) later(c *client, after int64) {
	if !c.due {
		c.due = true
		r.push(event{at: r.now + after, kind: evClient, who: int16(c.id)})
	}
}

func (r *run) think(c *client) int64 {
	if r.c.Think == 0 {
		return 1
	}
	return 1 + c.rng.Int64N(2*int64(r.c.Think))
}

// send hands an operation to the client's member.
func (r *run) send(c *client, o *op) {
	o.c, o.on = c, c.m
	o.Client, o.Owner, o.W.Proto = c.conn, o, 2
	o.Cmd = command.Lookup(o.Args[0]).Resolve(o.Args)
	o.read = o.Cmd.Place == command.Read
	o.Behind = len(c.open) > 0
	if o.Behind {
		o.behind = c.open[len(c.open)-1]
	}
	o.last = c.conn.LastWrite
	o.at, o.call = r.now, r.tick()
	c.open = append(c.open, o)
	r.inFlight++
	if r.trace != nil {
		r.say(c.m, "client %d: %s", c.id, o.String())
	}
	c.m.inbox = append(c.m.inbox, mail{op: o})
	r.wake(c.m, r.now+50+r.rng.Int64N(100))
	if o.form < waits {
		r.began()
	}
}

// answered follows the reply to an operation.
func (r *run) answered(o *op) {
	if o.fate != open {
		r.fail("OneReply", "%s was answered twice, the second time with %q", o, o.W.Buf)
		return
	}
	o.ret, o.answered = r.tick(), r.now
	r.inFlight--
	c := o.c
	for i, have := range c.open {
		if have == o {
			c.open = append(c.open[:i], c.open[i+1:]...)
			break
		}
	}
	o.replies, o.fate = outcome(o)
	if r.trace != nil {
		r.say(o.on, "client %d: %s -> %s", c.id, o.String(), shown(o.W.Buf))
	}
	if o.fate == open {
		r.fail("Reply", "%s was answered with %q", o, o.W.Buf)
		return
	}
	r.check.answer(o)
	if bytes.HasPrefix(o.W.Buf, []byte("-TIMEOUT")) && r.troubles == 0 && o.at > r.healed+commandTimeout {
		r.fail("Liveness", "%s took too long, although nothing had been wrong for %v: %s", o, time.Duration(o.at-r.healed), r.state())
	}
	switch {
	case o.form == watches && o.fate == done:
		n, _ := strconv.ParseUint(o.replies[0][1:], 10, 64)
		o.watch.Stamp = n
		c.watched = o.watch
	case c.watched != nil && c.seen == nil && o.subs[0].kind == get && o.fate == done:
		c.seen = o
	default:
		c.watched, c.seen = nil, nil
	}
	o.W.Buf = nil
	r.later(c, r.think(c))
}

// outcome reads a reply. Open: it is none that may come.
func outcome(o *op) ([]string, fate) {
	reply := string(o.W.Buf)
	if strings.HasPrefix(reply, "-") {
		switch word, _, _ := strings.Cut(reply[1:], " "); {
		case strings.HasPrefix(reply, "-TIMEOUT outcome unknown"):
			if o.changes() {
				return nil, unknown
			}
			return nil, void
		case word == "TIMEOUT", word == "BUSY", word == "OOM", word == "SHARDDOWN", word == "NOREPLICAS":
			return nil, void
		}
		return nil, open
	}
	replies, ok := parse(reply)
	if !ok {
		return nil, open
	}
	if o.form == array {
		switch {
		case replies[0] == "*-1": // EXEC was refused
			return nil, void
		case replies[0] != "*"+strconv.Itoa(countReplies(o.subs)):
			return nil, open
		}
		replies = replies[1:]
	}
	return replies, done
}

func countReplies(subs []sub) (n int) {
	for _, s := range subs {
		if s.kind != expect {
			n++
		}
	}
	return n
}

// parse takes a reply apart: each string, number or status on its own, an array as its header and its elements. Values
// lose their padding. "_" is null.
func parse(b string) (out []string, ok bool) {
	for len(b) > 0 {
		line, rest, found := strings.Cut(b, "\r\n")
		if !found || line == "" {
			return nil, false
		}
		b = rest
		switch line[0] {
		case '+', ':', '*', '-':
			out = append(out, line)
		case '$':
			n, err := strconv.Atoi(line[1:])
			if n == -1 {
				out = append(out, "_")
				continue
			}
			if err != nil || n < 0 || n+2 > len(b) || b[n:n+2] != "\r\n" {
				return nil, false
			}
			out = append(out, "$"+short(b[:n]))
			b = b[n+2:]
		default:
			return nil, false
		}
	}
	return out, len(out) > 0
}

func (o *op) changes() bool {
	for _, s := range o.subs {
		if s.kind != get && s.kind != expect {
			return true
		}
	}
	return false
}

// lost follows the end of a member's process: nobody will ever answer what was asked of it.
func (r *run) lost(m *member) {
	for _, c := range r.clients {
		if c.m != m || c.runs != m.runs {
			continue
		}
		for _, o := range c.open {
			r.inFlight--
			o.fate = void
			if o.changes() {
				o.fate = unknown
			}
			o.ret = r.tick()
		}
		c.open, c.watched, c.seen, c.m = c.open[:0], nil, nil, nil
		r.later(c, r.think(c)+r.latency())
	}
}

// String is the operation as a user would type it.
func (o *op) String() string {
	if o.text != "" {
		return o.text
	}
	var b strings.Builder
	write := func(args [][]byte) {
		for i, a := range args {
			if i > 0 {
				b.WriteByte(' ')
			}
			if n := valueNumber(a); n != 0 && len(a) > 12 {
				b.WriteString(short(string(a)) + "+" + strconv.Itoa(len(a)))
			} else {
				b.Write(a)
			}
		}
	}
	if o.Multi != nil {
		b.WriteString("MULTI")
		for i := range o.Multi.Calls {
			b.WriteString("; ")
			write(o.Multi.Calls[i].Args)
		}
		b.WriteString("; ")
	}
	write(o.Args)
	o.text = b.String()
	return o.text
}

func shown(reply []byte) string {
	parts, ok := parse(string(reply))
	if !ok {
		return strconv.Quote(string(reply))
	}
	for i, p := range parts {
		parts[i] = strings.TrimPrefix(p, "$")
		if len(parts[i]) > 80 {
			parts[i] = parts[i][:80] + "..."
		}
	}
	return strings.Join(parts, " ")
}
