package node

import (
	"crypto/tls"
	"time"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/internal/command"
	"whale/internal/poller"
	"whale/internal/shard"
	"whale/pmem"
)

// parker is the part of a fabric endpoint that a loop parks on.
type parker interface {
	Arm() bool
	Wait(d time.Duration)
	Disarm()
	Doorbell() int
}

// link is a fresh connection to another member.
type link struct {
	member int
	redis  string // where it serves clients
	conn   fabric.Conn
}

const (
	stepsPerRound = 8               // engine steps before replies are written and sockets looked at again
	acceptBatch   = 64              // connections accepted in one go
	stopLimit     = 2 * time.Second // how long a stop waits for commands that are under way
	statusPeriod  = 100 * time.Millisecond
	acceptPause   = 100 * time.Millisecond
	keepAlive     = 300 // seconds of silence before a client is asked whether it lives
)

// loop is the goroutine that owns the engine and the listening socket, and, as a reactor, connections of its own.
//
// It never blocks but in one place, [loop.park]: when a round brought nothing and nothing is left to be done. Before, it
// arms the fabric's doorbell and the mailbox; both refuse when something arrived meanwhile.
type loop struct {
	*reactor
	engine Engine
	fabric parker

	rung       bool // the doorbell was found readable, and not consumed yet
	listener   int  // -1: none
	laddr      string
	secure     *tls.Config // nil: no TLS for clients
	shakers    shakers
	maxClients int
	nextID     uint64
	squeezed   bool // the last attempt to accept failed, and the log says so
	manners    manners
	crowded    int64 // out of descriptors: nothing is accepted before this time; 0: not so

	reactors []*reactor  // by id; [0] is the loop itself
	replies  [][]message // for the other reactors, by id; sent at the end of the round

	redial   func(member int) // a connection that this member dials was lost
	observe  func(State)      // hears of changes; on the loop
	state    State
	stateAt  int64
	stopping int64 // when a stop gives up; 0: none was asked for
	ended    int   // other reactors that have no connection any more
}

// start is the zero of this process's monotonic clock.
var start = time.Now()

// monotonic is nanoseconds since start; never 0.
func monotonic() int64 { return int64(time.Since(start)) + 1 }

// serveForever runs until a stop message, or an error. It returns a *pmem.Fault when the memory was pulled away.
func (l *loop) serveForever() (err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	for {
		busy, err := l.round(monotonic())
		if err != nil {
			return err
		}
		if l.stop && l.finished() {
			return nil
		}
		if busy {
			err = l.look(0)
		} else {
			err = l.park()
		}
		if err != nil {
			return err
		}
	}
}

// round does everything that can be done now. The events of look have been handled already.
func (l *loop) round(now int64) (busy bool, err error) {
	l.receive(now)
	l.busy = false
	for range stepsPerRound {
		if busy = l.engine.Step(now); !busy {
			break
		}
		if u := l.engine.Urgency(); u != shard.Urgent {
			l.manners.stepAside(u)
		}
	}
	for _, member := range l.engine.Lost() {
		l.redial(member)
		l.stateAt = 0
	}
	l.serve()
	l.bury()
	for id, replies := range l.replies {
		if len(replies) > 0 {
			l.reactors[id].mail.put(replies...)
			clear(replies)
			l.replies[id] = replies[:0]
		}
	}
	if l.crowded != 0 && now >= l.crowded && !l.stop {
		l.crowded = 0
		err = l.poll.Modify(l.listener, poller.Readable)
	}
	l.publish()
	l.report(now)
	return busy || l.busy, err
}

// receive takes what other goroutines handed over.
func (l *loop) receive(now int64) {
	l.inbox = l.mail.take(l.inbox)
	for i := range l.inbox {
		switch m := &l.inbox[i]; {
		case m.request != nil:
			l.runFor(m.request)
		case m.cancel != nil:
			l.engine.Cancel(&m.cancel.Request)
		case m.client != nil:
			l.adopt(m.client)
		case m.order != nil:
			l.carryOut(m.order)
		case m.ask != nil:
			m.ask <- l.snapshot(now)
		case m.link != nil:
			if l.stop {
				m.link.conn.Close()
				break
			}
			l.server.peers[m.link.member] = m.link.redis
			l.engine.Connected(m.link.member, m.link.conn)
			l.stateAt = 0
		case m.end == finish:
			l.beginStop(now)
		case m.end == ended:
			l.ended++
		}
	}
}

// runFor runs a request of another reactor.
func (l *loop) runFor(q *request) {
	l.busy = true
	if q.Cmd.Place == command.Here && q.Cmd != waitCommand {
		l.here(q, &q.W)
		q.Completed(&q.Request)
		return
	}
	l.engine.Submit(&q.Request)
}

// look asks for events, for at most d (negative: for ever), and handles them.
func (l *loop) look(d time.Duration) error {
	before := monotonic()
	if err := l.wait(d); err != nil {
		return err
	}
	if now := monotonic(); now-before >= int64(time.Millisecond) {
		l.engine.Step(now) // what is submitted now counts its time from the engine's last step
	}
	for _, ev := range l.events {
		switch ev.FD {
		case l.listener:
			l.accept()
		case l.mail.fd:
			l.mail.silence()
		case l.fabric.Doorbell():
			l.rung = true // consumed by park
		default:
			l.handle(ev)
		}
	}
	return nil
}

// park waits for whatever comes first: a client, the doorbell, the mailbox, the engine's timer.
func (l *loop) park() error {
	if !l.fabric.Arm() {
		return l.look(0)
	}
	d := time.Duration(0)
	if l.mail.park() {
		d = l.idleTime(monotonic())
	}
	err := l.look(d)
	l.mail.unpark()
	if l.rung {
		l.fabric.Wait(0)
		l.rung = false
	} else {
		l.fabric.Disarm()
	}
	return err
}

// idleTime is how long nothing has to be done unless something comes; negative: for ever.
func (l *loop) idleTime(now int64) time.Duration {
	d := l.resumption()
	for _, at := range [...]int64{l.engine.Wake(), l.stopping, l.crowded} {
		if at != 0 && (d < 0 || time.Duration(at-now) < d) {
			d = max(time.Duration(at-now), 0)
		}
	}
	return d
}

// report tells the observer when the node's state has changed. While it serves and nothing happens to its connections, it
// is asked for now and then only.
func (l *loop) report(now int64) {
	if l.state.Serving && l.stateAt != 0 && now-l.stateAt < int64(statusPeriod) {
		return
	}
	l.stateAt = now
	if s := l.server.state(l.engine.Status()); s != l.state {
		l.state = s
		l.observe(s)
	}
}

// beginStop ends everything in order: nothing new is accepted or parsed, and what is under way may finish.
func (l *loop) beginStop(now int64) {
	if l.stop {
		return
	}
	l.stopping = now + int64(stopLimit)
	l.finish()
	if l.listener >= 0 {
		unix.Close(l.listener)
		l.listener = -1
	}
	for _, r := range l.reactors[1:] {
		r.mail.put(message{end: finish})
	}
}

// finished: all connections are closed, or the time for that is over.
func (l *loop) finished() bool {
	if monotonic() >= l.stopping {
		l.log.Warn("stopping although commands are under way", "connections", l.server.connected())
		return true
	}
	return l.open == 0 && l.ended == len(l.reactors)-1
}

// accept takes new connections and hands them out in turn.
func (l *loop) accept() {
	for range acceptBatch {
		fd, from, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			l.squeezed = false
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case unix.EAGAIN:
			return
		default:
			// EMFILE, ENFILE, ENOBUFS, ENOMEM: the pending one stays, so the listener stays readable. Look away for a moment.
			if !l.squeezed {
				l.squeezed = true
				l.log.Warn("cannot accept a client; trying again until it works", "error", err, "connections", l.server.connected())
			}
			l.crowded = monotonic() + int64(acceptPause)
			if err := l.poll.Modify(l.listener, 0); err != nil {
				l.log.Error("the listener is lost", "error", err)
			}
			return
		}
		if l.server.connected()+l.shakers.running() >= l.maxClients {
			l.server.rejected.Add(1)
			poller.Write(fd, []byte("-ERR max number of clients reached\r\n"))
			unix.Close(fd)
			continue
		}
		l.welcome(fd, from)
	}
}

func (l *loop) welcome(fd int, from unix.Sockaddr) {
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // a reply is one write: nothing is gained by waiting
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) // a client whose machine is gone is noticed some day
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAlive)
	l.nextID++
	r := l.reactors[int(l.nextID)%len(l.reactors)]
	c := &conn{reactor: r, fd: fd, client: &command.Client{ID: l.nextID, Addr: addrString(from), LAddr: l.laddr, Created: time.Now().UnixMilli(), Proto: 2,
		Authed: !l.server.params.Locked()}}
	if l.secure != nil {
		l.shakers.begin(c, l.secure, r)
		return
	}
	l.server.remember(c)
	if r == l.reactor {
		r.adopt(c)
	} else {
		r.mail.put(message{client: c})
	}
}

// newLoop makes the loop and its reactors. listener is its own from now on, if there is no error.
func newLoop(cfg *Config, engine Engine, parker parker, s *server, listener int) (_ *loop, err error) {
	l := &loop{
		engine: engine, fabric: parker, listener: listener, laddr: s.laddr, maxClients: cfg.MaxClients,
		redial: func(int) {}, observe: cfg.Observe, replies: make([][]message, cfg.Threads), manners: manners{log: cfg.Log},
	}
	s.loop = l
	defer func() {
		if err != nil {
			for _, r := range l.reactors {
				r.close()
			}
		}
	}()
	for id := range cfg.Threads {
		r, err := newReactor(id, l, s, cfg.Log, cfg.Limits)
		if err != nil {
			return nil, err
		}
		l.reactors = append(l.reactors, r)
	}
	l.reactor = l.reactors[0]
	l.owner = true
	if bell := parker.Doorbell(); bell >= 0 {
		err = l.poll.Add(bell, poller.Readable)
	}
	if err == nil {
		err = l.poll.Add(listener, poller.Readable)
	}
	return l, err
}

// close ends all connections of all reactors, none of which runs any more.
func (l *loop) close() {
	if l.listener >= 0 {
		unix.Close(l.listener)
	}
	l.shakers.close()
	for _, r := range l.reactors {
		r.close()
	}
}
