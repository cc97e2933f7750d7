package node

import (
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/internal/command"
	"whale/internal/poller"
	"whale/internal/resp"
	"whale/internal/shard"
	"whale/pmem"
)

// Engine is what a node asks of its member of the shard; [shard.Engine] is the one there is. All methods but TryRun
// belong to the loop's goroutine.
type Engine interface {
	Submit(r *shard.Request)
	Cancel(r *shard.Request)
	TryRun(r *shard.Request) bool
	Connected(member int, c fabric.Conn)
	Step(now int64) (progress bool)
	Urgency() shard.Urgency
	Wake() int64
	Lost() []int
	Status() shard.Status
	Lags(now int64) shard.Lags
	Close()
}

// message is what reactors and other goroutines hand to each other. One field is set.
type message struct {
	request *request        // to the loop: run it; back: it is answered
	cancel  *request        // to the loop: a WAIT whose client is gone, or that CLIENT UNBLOCK ends
	client  *conn           // serve it
	order   *order          // about a connection of this reactor
	ask     chan<- snapshot // to the loop: say how things are; has room
	look    bool            // something that the reactor looks at in every round has changed
	link    *link           // to the loop: a peer is connected
	end     ending
}

type ending uint8

const (
	finish ending = iota + 1 // answer what is there, then end
	leave                    // end now
	ended                    // to the loop: a reactor that was to finish has no connection any more
)

// reactor serves the connections of one goroutine: it reads, parses, runs what can be answered at once, sends the rest
// to the engine, and writes the replies in order, with one write for each connection and batch.
type reactor struct {
	id     int
	owner  bool // this reactor's goroutine is the loop, which owns the engine
	run    Engine
	loop   *loop
	server *server
	log    *slog.Logger

	limits    resp.Limits
	maxOutput int

	poll    *poller.Poller
	events  []poller.Event
	mail    *mailbox[message]
	inbox   []message
	outbox  []message // to the loop, sent at the end of the round
	buffers buffers
	scratch []byte // for intake
	stock   stock
	ctx     command.Ctx

	conns   []*conn // by descriptor
	open    int     // connections in conns
	zombies int     // closed, but with requests in the engine's hands
	touched []*conn // to be served before the round ends
	doomed  []int   // descriptors to be closed when the round ends: until then no new one gets their number
	busy    bool    // something was submitted: another round is due before parking
	stop    bool    // nothing is parsed any more
	told    bool    // the loop knows that this reactor has ended
	now     int64   // unix milliseconds at the start of the round
	stalled []*conn // held back by CLIENT PAUSE
	clock

	counts struct{ commands, in, out uint64 } // since the start
	shown  struct {                           // counts, as of the end of the last round
		commands, in, out atomic.Uint64
		open              atomic.Int64
	}
}

var (
	waitCommand = command.Lookup([]byte("wait"))
	infoCommand = command.Lookup([]byte("info"))
	roleCommand = command.Lookup([]byte("role"))
	memory      = command.Lookup([]byte("memory"))
)

// readsEngine says whether a command of place Here asks the engine, which is the loop's alone.
func readsEngine(cmd *command.Command) bool {
	return cmd == infoCommand || cmd == roleCommand || cmd.Index() == memory.Index()
}

func newReactor(id int, n *loop, s *server, log *slog.Logger, limits resp.Limits) (*reactor, error) {
	poll, err := poller.New(256)
	if err != nil {
		return nil, err
	}
	mail, err := newMailbox[message]()
	if err == nil {
		err = poll.Add(mail.fd, poller.Readable)
	}
	if err != nil {
		poll.Close()
		return nil, err
	}
	return &reactor{id: id, loop: n, run: n.engine, server: s, log: log, limits: limits, maxOutput: maxOutput, poll: poll, mail: mail,
		clock: clock{answered: make([]int, len(command.All())), slowerThan: -1, eventFrom: -1}}, nil
}

func (r *reactor) close() {
	for _, c := range r.conns {
		if c != nil {
			r.drop(c, "")
		}
	}
	for _, m := range r.mail.take(nil) { // what came too late
		if m.link != nil {
			m.link.conn.Close()
		}
		if m.client != nil {
			r.doomed = append(r.doomed, m.client.fd)
		}
	}
	r.bury()
	r.mail.close()
	r.poll.Close()
}

// serveAside is the goroutine of a reactor that is not the loop.
func (r *reactor) serveAside() (err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	for {
		r.inbox = r.mail.take(r.inbox)
		for i := range r.inbox {
			switch m := &r.inbox[i]; {
			case m.request != nil:
				m.request.conn.complete(m.request)
			case m.client != nil:
				r.adopt(m.client)
			case m.order != nil:
				r.carryOut(m.order)
			case m.end == finish:
				r.finish()
			case m.end == leave:
				return nil
			}
		}
		r.serve()
		r.bury()
		r.publish()
		if r.stop && r.open == 0 && !r.told {
			r.told = true
			r.outbox = append(r.outbox, message{end: ended})
		}
		r.loop.mail.put(r.outbox...)
		clear(r.outbox)
		r.outbox = r.outbox[:0]
		d := time.Duration(0)
		if r.mail.park() {
			d = r.resumption()
		}
		err := r.wait(d)
		r.mail.unpark()
		if err != nil {
			return err
		}
		for _, ev := range r.events {
			if ev.FD == r.mail.fd {
				r.mail.silence()
			} else {
				r.handle(ev)
			}
		}
	}
}

// wait fills events; d as in [poller.Poller.Wait].
func (r *reactor) wait(d time.Duration) (err error) {
	r.events, err = r.poll.Wait(r.events[:0], d)
	r.now = r.begin()
	return err
}

// publish lets INFO, which may run on another goroutine, see this reactor's counters.
func (r *reactor) publish() {
	r.shown.commands.Store(r.counts.commands)
	r.shown.in.Store(r.counts.in)
	r.shown.out.Store(r.counts.out)
	r.shown.open.Store(int64(r.open))
}

// finish parses nothing more; each connection is closed when what it asked for is answered.
func (r *reactor) finish() {
	r.stop = true
	for _, c := range r.conns {
		if c != nil {
			r.touch(c)
		}
	}
}

// adopt begins to serve c.
func (r *reactor) adopt(c *conn) {
	c.chunk = minBuffer
	c.parser.Limits = r.limits
	c.watched = c.interest()
	for len(r.conns) <= c.fd {
		r.conns = append(r.conns, nil)
	}
	r.conns[c.fd] = c
	r.open++
	if err := r.poll.Add(c.fd, c.watched); err != nil {
		r.drop(c, err.Error())
	} else if c.secure != nil {
		r.touch(c) // with the end of the handshake commands may have come
	}
}

// handle reacts to one event of a client's connection: it reads once and dispatches what that completes. The replies
// leave at the end of the round.
func (r *reactor) handle(ev poller.Event) {
	if ev.FD >= len(r.conns) || r.conns[ev.FD] == nil {
		return
	}
	c := r.conns[ev.FD]
	if ev.Readable {
		if !c.fill() {
			r.drop(c, "")
			return
		}
		c.rearm = c.rearm || ev.Ended && !c.eof
		c.parse()
	}
	r.touch(c) // also when nothing can be done: the poller must not report the same again
}

// dispatch runs or submits one command. q's arguments are checked by nobody yet.
func (r *reactor) dispatch(c *conn, q *request) {
	r.counts.commands++
	cmd := command.Lookup(q.Args[0])
	q.began, q.mute = 0, c.client.Begin()
	if text := command.Check(cmd, q.Args); text != "" {
		c.fail(q, c.client.Refused(cmd, text))
		return
	}
	cmd = cmd.Resolve(q.Args)
	q.Cmd, q.Client = cmd, c.client
	if !c.client.Authed && !cmd.NoAuth() && r.server.params.Locked() {
		c.fail(q, errNoAuth)
		return
	}
	q.began = r.began
	if r.server.holds(cmd) || cmd == execCommand && c.client.WritesOnExec() && r.server.holdsWrites() {
		c.stall(q)
		return
	}
	r.perform(c, q)
}

// perform runs or submits a command that may run now.
func (r *reactor) perform(c *conn, q *request) {
	cmd := q.Cmd
	if r.server.monitors.Load() != 0 && cmd.Monitored() {
		r.server.feed(r, q)
	}
	switch {
	case r.queueInMulti(c, q):
	case cmd.Place == command.Transact:
		r.transact(c, q)
	case cmd == waitCommand:
		c.hold(q)
		c.enqueue(q)
		c.barrier = q
		r.passBarrier(c)
	case cmd.Place == command.Here && (r.owner || !readsEngine(cmd)):
		c.client.Touch(cmd, r.now) // CLIENT LIST shows itself
		w, queued := c.reply(q)
		began := monotonic()
		stranger := !c.client.Authed
		r.here(q, w)
		if stranger && c.client.Authed {
			c.parser.Limits = r.limits
		}
		q.mute = c.client.Muted()
		r.note(q, q.Args, monotonic()-began)
		q.began = 0
		c.closing = c.client.Quit
		c.replied(q, queued)
	case cmd.Place == command.Read && c.first == nil && !q.mute && (r.owner || cmd.LastKey == cmd.FirstKey) && r.tryRun(c, q):
	default:
		q.Behind = c.first != nil
		c.hold(q)
		c.enqueue(q)
		r.submit(q)
	}
	c.latest = cmd
}

// here runs a command that needs no data.
func (r *reactor) here(q *request, w *resp.Writer) {
	r.ctx.Args, r.ctx.W, r.ctx.Client, r.ctx.Server = q.Args, w, q.Client, r.server
	q.Cmd.Run(&r.ctx)
	r.ctx.Reset()
}

// tryRun answers a read straight into the output. False: nothing happened.
func (r *reactor) tryRun(c *conn, q *request) bool {
	own := q.W.Buf
	q.W = *c.writer()
	ok := r.run.TryRun(&q.Request)
	if ok {
		c.out.Buf = q.W.Buf
	}
	q.W.Buf = own
	if ok {
		r.quick(q.Cmd)
		r.stock.put(q)
	}
	return ok
}

func (r *reactor) submit(q *request) {
	r.busy = true
	if r.owner {
		r.run.Submit(&q.Request)
	} else {
		r.outbox = append(r.outbox, message{request: q})
	}
}

// passBarrier sends off a WAIT that has become the first of its connection.
func (r *reactor) passBarrier(c *conn) {
	if q := c.barrier; q != nil && c.first == q && !q.sent && !q.stalled {
		q.sent = true
		c.client.SetWaiting(q.Cmd == waitCommand)
		r.submit(q)
	}
}

// touch notes that c is to be served before the round ends.
func (r *reactor) touch(c *conn) {
	if !c.touched {
		c.touched = true
		r.touched = append(r.touched, c)
	}
}

// serve does for every touched connection what can be done now.
func (r *reactor) serve() {
	r.finishRound()
	for i := 0; i < len(r.touched); i++ { // it may grow meanwhile
		c := r.touched[i]
		r.touched[i] = nil
		c.touched = false
		if c.dead {
			r.mourn(c)
		} else {
			r.serveOne(c)
		}
	}
	r.touched = r.touched[:0]
}

func (r *reactor) serveOne(c *conn) {
	for {
		c.collect()
		r.passBarrier(c)
		stopped := c.parse()
		if !c.flush() {
			r.drop(c, "")
			return
		}
		if c.secure != nil && c.secure.More() && c.wantsRead() { // the poller does not know of it
			if !c.fill() {
				r.drop(c, "")
				return
			}
			continue
		}
		if !stopped || c.paused() {
			break
		}
	}
	if c.latest != nil {
		c.client.Touch(c.latest, r.now)
		c.latest = nil
	}
	if why := c.overdue(); why != "" {
		r.drop(c, why)
		return
	}
	// A WAIT may last for ever; a node that stops does not wait for it.
	nothing := c.first == nil || r.stop && c.first == c.barrier && c.first.Cmd == waitCommand
	if (c.eof || c.closing || r.stop) && nothing && c.unsent() == 0 {
		r.drop(c, "")
		return
	}
	c.giveBack()
	r.watch(c)
}

// watch tells the poller what c waits for, if that has changed or the poller is to look again.
func (r *reactor) watch(c *conn) {
	want := c.interest()
	again := c.rearm && want&poller.Readable != 0
	c.rearm = false
	if want == c.watched && !again {
		return
	}
	if err := r.poll.Modify(c.fd, want); err != nil {
		r.drop(c, err.Error())
		return
	}
	c.watched = want
}

// drop closes a connection; why is for the log, empty for what is usual.
func (r *reactor) drop(c *conn, why string) {
	if c.dead {
		return
	}
	if why != "" {
		r.log.Warn("closing a client's connection", "client", c.client.Addr, "reason", why)
	}
	c.dead = true
	r.conns[c.fd] = nil
	r.open--
	r.zombies++
	r.server.forget(c.client)
	if c.secure != nil {
		c.secure.Farewell()
	}
	// Unread input would make the kernel reset the connection, and the last reply (what was wrong) be lost on its way.
	var scratch [4096]byte
	for range 16 {
		if n, err := poller.Read(c.fd, scratch[:]); n == 0 || err != nil {
			break
		}
	}
	r.doomed = append(r.doomed, c.fd)
	if q := c.barrier; q != nil && q.sent { // it might wait for ever
		if r.owner {
			r.run.Cancel(&q.Request)
		} else {
			r.outbox = append(r.outbox, message{cancel: q})
		}
	}
	r.mourn(c)
}

// mourn throws away the replies of a closed connection, and its buffers when the engine has given the last of its
// requests back.
func (r *reactor) mourn(c *conn) {
	c.discard()
	if c.first != nil || c.buried {
		return
	}
	c.buried = true
	r.zombies--
	r.buffers.put(c.in)
	r.buffers.put(c.out.Buf)
	c.in, c.out.Buf = nil, nil
}

// bury closes the descriptors of dropped connections.
func (r *reactor) bury() {
	for _, fd := range r.doomed {
		unix.Close(fd)
	}
	r.doomed = r.doomed[:0]
}
