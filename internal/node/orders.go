package node

import (
	"sync/atomic"
	"time"

	"whale/internal/command"
	"whale/internal/resp"
)

// What commands ask the node to do with connections that may belong to other reactors: CLIENT KILL, PAUSE and UNBLOCK,
// MONITOR.

const (
	errNoAuth    = "NOAUTH Authentication required."
	errUnblocked = "UNBLOCKED client unblocked via CLIENT UNBLOCK"
)

// strangersLimits bound what a connection that has to authenticate first can make the node hold.
func (r *reactor) strangersLimits() resp.Limits {
	l := r.limits
	if r.server.params.Locked() {
		l.MaxArgs, l.MaxBulk = 10, 16<<10
	}
	return l
}

// order is about one connection; its reactor carries it out.
type order struct {
	conn    *conn
	kill    bool
	unblock string // the reply that ends its WAIT; empty: none
	line    []byte // to be shown to this monitor
}

func (r *reactor) carryOut(o *order) {
	c := o.conn
	switch {
	case c.dead:
	case o.kill:
		r.drop(c, "")
	case o.unblock != "":
		if q := c.barrier; q != nil && q.sent && q.Cmd == waitCommand {
			q.unblocked = o.unblock
			if r.owner {
				r.run.Cancel(&q.Request)
			} else {
				r.outbox = append(r.outbox, message{cancel: q})
			}
		}
	case o.line != nil && c.client.Monitoring():
		c.writer().Raw(o.line)
		r.touch(c)
	}
}

func (s *server) find(cl *command.Client) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients[cl.ID]
}

// Kill implements [command.Server].
func (s *server) Kill(cl *command.Client) {
	if c := s.find(cl); c != nil {
		c.reactor.mail.put(message{order: &order{conn: c, kill: true}})
	}
}

// Unblock implements [command.Server]. Where the number of copies is not known, at a backup, the reply says none.
func (s *server) Unblock(cl *command.Client, withError bool) bool {
	c := s.find(cl)
	if c == nil || !cl.Waiting() {
		return false
	}
	reply := ":0\r\n"
	if withError {
		reply = "-" + errUnblocked + "\r\n"
	}
	c.reactor.mail.put(message{order: &order{conn: c, unblock: reply}})
	return true
}

// unblock completes a WAIT that [reactor.carryOut] cancelled.
func (c *conn) unblock(q *request) {
	c.client.SetWaiting(false)
	if q.unblocked != "" && (len(q.W.Buf) == 0 || q.unblocked[0] == '-') {
		q.W.Buf = append(q.W.Buf[:0], q.unblocked...)
	}
}

// waiting is the number of clients in WAIT.
func (s *server) waiting() (n int) {
	for cl := range s.Clients() {
		if cl.Waiting() {
			n++
		}
	}
	return n
}

// Monitor implements [command.Server].
func (s *server) Monitor(cl *command.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(0)
	for _, c := range s.clients {
		if c.client.Monitoring() {
			n++
		}
	}
	s.monitors.Store(n)
}

// feed shows a command to all monitors.
func (s *server) feed(from *reactor, q *request) {
	line := command.MonitorLine(nil, time.Now().UnixMicro(), q.Client, q.Cmd, q.Args)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		switch {
		case !c.client.Monitoring():
		case c.reactor == from:
			from.carryOut(&order{conn: c, line: line})
		default:
			c.reactor.mail.put(message{order: &order{conn: c, line: line}})
		}
	}
}

// pause is what CLIENT PAUSE asked for.
type pause struct {
	until atomic.Int64 // monotonic; 0: nothing is held back
	all   atomic.Bool
}

// Pause implements [command.Server].
func (s *server) Pause(ms int64, all bool) {
	s.pause.all.Store(all)
	until := int64(0)
	if ms > 0 {
		until = monotonic() + ms*int64(time.Millisecond)
	}
	s.pause.until.Store(until)
	for _, r := range s.loop.reactors {
		r.mail.put(message{look: true})
	}
}

// holds says whether a command has to wait until CLIENT PAUSE is over. CLIENT itself does not, so that it can end that.
func (s *server) holds(cmd *command.Command) bool {
	return s.holdsWrites() && cmd.Index() != clientCommand.Index() && (s.pause.all.Load() || cmd.Place == command.Write)
}

func (s *server) holdsWrites() bool { return s.pause.until.Load() != 0 && s.paused() }

func (s *server) paused() bool {
	until := s.pause.until.Load()
	if until != 0 && monotonic() < until {
		return true
	}
	s.pause.until.CompareAndSwap(until, 0)
	return false
}

var clientCommand = command.Lookup([]byte("client"))

// stall holds q back, and with it everything behind it on its connection.
func (c *conn) stall(q *request) {
	c.hold(q)
	c.enqueue(q)
	c.barrier, q.stalled = q, true
	c.reactor.stalled = append(c.reactor.stalled, c)
}

// resume performs what was held back when that is over.
func (r *reactor) resume() {
	if len(r.stalled) == 0 || r.server.paused() {
		return
	}
	stalled := r.stalled
	r.stalled = nil
	for _, c := range stalled {
		if c.dead {
			continue
		}
		q := c.dequeueLast()
		c.barrier, q.stalled = nil, false
		c.release(q)
		r.perform(c, q)
		r.touch(c)
	}
}

// dequeueLast takes the last request out of the queue.
func (c *conn) dequeueLast() *request {
	q := c.last
	var before *request
	for p := c.first; p != q; p = p.next {
		before = p
	}
	if c.last = before; before == nil {
		c.first = nil
	} else {
		before.next = nil
	}
	c.queued--
	return q
}

// resumption is how long until held back commands are due; negative: there are none.
func (r *reactor) resumption() time.Duration {
	if len(r.stalled) == 0 {
		return -1
	}
	return max(0, time.Duration(r.server.pause.until.Load()-monotonic()))
}

// ResetStats implements [command.Server].
func (s *server) ResetStats() {
	commands, in, out := s.counted()
	s.base.commands.Store(commands)
	s.base.in.Store(in)
	s.base.out.Store(out)
	s.total.Store(0)
	s.rejected.Store(0)
	s.notes.Reset()
}

// counted is what all reactors have counted since the start.
func (s *server) counted() (commands, in, out uint64) {
	for _, r := range s.loop.reactors {
		commands += r.shown.commands.Load()
		in += r.shown.in.Load()
		out += r.shown.out.Load()
	}
	return commands, in, out
}

// Params implements [command.Server].
func (s *server) Params() *command.Params { return s.params }

// Notes implements [command.Server].
func (s *server) Notes() *command.Notes { return &s.notes }

// clock is how a reactor measures commands: from the moment when their connection was found readable to that when the
// replies of the round are collected. That costs two readings of the clock a round, not two a command.
type clock struct {
	began      int64 // monotonic, when the events of this round were fetched
	collected  int64 // monotonic, when the last round's replies were
	slowerThan int64 // microseconds, from which on commands are for the slow log; negative: none
	eventFrom  int64 // microseconds, from which on they are latency events; negative: none

	answered []int // reads answered at once in this round, by Command.Index
	which    []*command.Command
}

// begin starts a round and returns its time in unix milliseconds.
func (r *reactor) begin() int64 {
	now := time.Now()
	r.began = int64(now.Sub(start)) + 1
	us, logged := r.server.params.SlowerThan()
	if r.slowerThan = us; !logged {
		r.slowerThan = -1
	}
	ms, watched := r.server.params.LatencyThreshold()
	if r.eventFrom = ms * 1000; !watched {
		r.eventFrom = -1
	}
	return now.UnixMilli()
}

// quick notes a read that was answered at once; it is counted when the round ends.
func (r *reactor) quick(cmd *command.Command) {
	if r.answered[cmd.Index()]++; r.answered[cmd.Index()] == 1 {
		r.which = append(r.which, cmd)
	}
}

// finishRound comes before the replies are collected: what was held back is due, and what was answered is counted.
func (r *reactor) finishRound() {
	r.resume()
	if len(r.touched) == 0 {
		return
	}
	r.collected = monotonic()
	took := (r.collected - r.began) / 1000
	for _, cmd := range r.which {
		r.server.notes.Times[r.id][cmd.Index()].Add(took, uint64(r.answered[cmd.Index()]))
		r.answered[cmd.Index()] = 0
	}
	r.which = r.which[:0]
}

// noteQueued counts a command whose reply is being collected.
func (r *reactor) noteQueued(q *request) {
	took := r.collected - q.began
	q.began = 0
	if q.Cmd == waitCommand { // it is slow when it does its work
		r.server.notes.Times[r.id][q.Cmd.Index()].Add(took/1000, 1)
		return
	}
	r.note(q, nil, took)
}

// note counts a command that took so many nanoseconds; args are nil if q has a memo of them.
func (r *reactor) note(q *request, args [][]byte, took int64) {
	us := took / 1000
	n := &r.server.notes
	n.Times[r.id][q.Cmd.Index()].Add(us, 1)
	if r.slowerThan >= 0 && us >= r.slowerThan {
		if args != nil {
			q.memo = command.AppendMemo(q.memo[:0], q.Cmd, args)
		}
		if len(q.memo) > 0 {
			_, max := r.server.params.SlowLog()
			n.Slow.Add(q.Client, r.now, us, q.memo, max)
		}
	}
	if r.eventFrom >= 0 && us >= r.eventFrom {
		n.Latency.Add(q.Cmd, r.now, us/1000)
	}
}
