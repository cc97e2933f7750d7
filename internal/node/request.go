package node

import (
	"whale/internal/command"
	"whale/internal/shard"
)

// request is one command of one connection, from the moment it was parsed until its reply is on the way. Requests are
// pooled by the reactor that owns the connection; between submit and Completed the engine owns them.
type request struct {
	shard.Request
	conn  *conn
	next  *request       // behind it in the connection's queue, or in the reactor's stock
	argv  [][]byte       // storage of Args
	held  bool           // Args point into the connection's read buffer and are still needed
	sent  bool           // a WAIT that was submitted
	watch *command.Watch // a WATCH: where its answer goes
	mute  bool           // the reply is thrown away

	stalled   bool   // held back by CLIENT PAUSE
	unblocked string // CLIENT UNBLOCK ended this WAIT: what the reply is
	began     int64  // when it arrived; 0: its time has been noted
	memo      []byte // for the slow log, when Args are gone
	done      bool   // the reply in W is complete
}

// What a stock and each request in it hold on to, at most.
const (
	maxKeptRequests = 4096
	maxKeptArgs     = 1024
	maxKeptReply    = 16 << 10
)

// Executed implements [shard.Owner]: the engine does not need the arguments any more. The engine's goroutine.
func (q *request) Executed(*shard.Request) {
	if c := q.conn; c.reactor.owner {
		c.release(q)
	} // else with the reply: a mailbox message more for each request is worth less than the buffer space
}

// Completed implements [shard.Owner]: the reply is there. The engine's goroutine.
func (q *request) Completed(*shard.Request) {
	if r := q.conn.reactor; r.owner {
		q.conn.complete(q)
	} else {
		r.loop.replies[r.id] = append(r.loop.replies[r.id], message{request: q})
	}
}

// stock is a reactor's pool of requests.
type stock struct {
	head *request
	n    int
}

func (s *stock) get(c *conn) *request {
	q := s.head
	if q == nil {
		q = new(request)
		q.Owner = q
	} else {
		s.head = q.next
		s.n--
	}
	q.conn, q.next = c, nil
	return q
}

func (s *stock) put(q *request) {
	if s.n >= maxKeptRequests {
		return
	}
	s.n++
	if cap(q.argv) > maxKeptArgs {
		q.argv = nil
	}
	clear(q.argv) // the read buffer is not kept alive from here
	if cap(q.W.Buf) > maxKeptReply {
		q.W.Buf = nil
	}
	q.W.Buf = q.W.Buf[:0]
	q.Cmd, q.Args, q.Client, q.Behind, q.Multi, q.watch = nil, nil, nil, false, nil, nil
	q.conn, q.held, q.sent, q.done, q.mute, q.stalled, q.unblocked = nil, false, false, false, false, false, ""
	q.memo = q.memo[:0]
	q.next = s.head
	s.head = q
}
