package node

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/internal/command"
	"whale/internal/poller"
	"whale/internal/resp"
	"whale/internal/shard"
)

// toy is an engine on a map that can be told to be stuck, or late.
type toy struct {
	bell int // an eventfd: the doorbell

	mu        sync.Mutex
	data      map[string][]byte
	stuck     bool // execute nothing
	late      bool // execute, but complete nothing
	forward   bool // TryRun declines everything
	still     bool // Set stores nothing, and so allocates nothing
	shuffle   *rand.Rand
	queue     []*shard.Request
	done      []*shard.Request // executed, not completed
	submitted int

	executed, completed []*shard.Request // of one Step
	most                int              // requests at one time
	behind              int              // requests submitted with Behind
	ctx                 command.Ctx

	status shard.Status // what to say, unless it is the zero one
	lags   shard.Lags
}

func newToy(t testing.TB) *toy {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &toy{bell: fd, data: map[string][]byte{}}
}

// set changes the toy and rings the loop.
func (e *toy) set(change func()) {
	e.mu.Lock()
	change()
	e.mu.Unlock()
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	poller.Write(e.bell, one[:])
}

func (e *toy) get(look func() int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return look()
}

// parker

func (e *toy) Arm() bool              { return true }
func (e *toy) Disarm()                {}
func (e *toy) Urgency() shard.Urgency { return shard.Urgent }
func (e *toy) Doorbell() int          { return e.bell }
func (e *toy) Wait(time.Duration) {
	var count [8]byte
	poller.Read(e.bell, count[:])
}

// command.Tx

func (e *toy) Get(key []byte) ([]byte, bool) { v, ok := e.data[string(key)]; return v, ok }
func (e *toy) Deadline(key []byte) (int64, bool) {
	_, ok := e.data[string(key)]
	return 0, ok
}
func (e *toy) SetUntil(key, value []byte, _ int64) { e.Set(key, value) }
func (e *toy) Set(key, value []byte) {
	if !e.still {
		e.data[string(key)] = bytes.Clone(value)
	}
}
func (e *toy) Del(key []byte) bool {
	_, ok := e.data[string(key)]
	delete(e.data, string(key))
	return ok
}
func (e *toy) FlushAll() { clear(e.data) }
func (e *toy) Len() int  { return len(e.data) }
func (e *toy) Scan(_ uint64, visit func([]byte)) uint64 {
	for k := range e.data {
		visit([]byte(k))
	}
	return 0
}
func (e *toy) Stamp() uint64 { return 1 }

// Engine

func (e *toy) run(ctx *command.Ctx, r *shard.Request) {
	ctx.Args, ctx.W, ctx.Client, ctx.Tx = r.Args, &r.W, r.Client, e
	r.Cmd.Run(ctx)
	if ctx.Wait.Asked {
		r.W.Int(2)
	}
	ctx.Reset()
}

func (e *toy) TryRun(r *shard.Request) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.forward || r.Cmd.Place != command.Read {
		return false
	}
	e.run(&e.ctx, r)
	return true
}

func (e *toy) Submit(r *shard.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.submitted++
	if r.Behind {
		e.behind++
	}
	e.queue = append(e.queue, r)
	e.most = max(e.most, len(e.queue)+len(e.done))
}

func (e *toy) Step(int64) bool {
	e.mu.Lock()
	e.executed, e.completed = e.executed[:0], e.completed[:0]
	if !e.stuck {
		for _, r := range e.queue {
			e.run(&e.ctx, r)
		}
		e.executed = append(e.executed, e.queue...)
		e.done = append(e.done, e.queue...)
		e.queue = e.queue[:0]
	}
	if !e.late && !e.stuck {
		n := len(e.done)
		if e.shuffle != nil {
			// Any order, and not all at once.
			e.shuffle.Shuffle(n, func(i, j int) { e.done[i], e.done[j] = e.done[j], e.done[i] })
			n = (n + 1) / 2
		}
		e.completed = append(e.completed, e.done[:n]...)
		e.done = append(e.done[:0], e.done[n:]...)
	}
	e.mu.Unlock()
	for _, r := range e.executed {
		r.Owner.Executed(r)
	}
	for _, r := range e.completed {
		r.Owner.Completed(r)
	}
	return len(e.executed)+len(e.completed) > 0
}

func (e *toy) Wake() int64                { return 0 }
func (e *toy) Lost() []int                { return nil }
func (e *toy) Connected(int, fabric.Conn) {}
func (e *toy) Close()                     {}

func (e *toy) Lags(int64) shard.Lags { return e.lags }

func (e *toy) Status() shard.Status {
	if s := e.status; s.Err != nil || len(s.Members) > 0 {
		return s
	}
	return shard.Status{Serving: true, Primary: true}
}

// Cancel completes a WAIT that is stuck.
func (e *toy) Cancel(r *shard.Request) {
	e.mu.Lock()
	i := slices.Index(e.queue, r)
	if i >= 0 {
		e.queue = slices.Delete(e.queue, i, i+1)
	}
	e.mu.Unlock()
	if i >= 0 {
		r.Owner.Completed(r)
	}
}

func loudTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// rig is a loop on a toy.
type rig struct {
	t     testing.TB
	toy   *toy
	loop  *loop
	addr  string
	log   *lockedBuffer
	admin *admin
	done  chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newRig makes a loop that does not run yet.
func newRig(t testing.TB, change func(*Config)) *rig {
	g := &rig{t: t, toy: newToy(t), log: &lockedBuffer{}, done: make(chan error, 1)}
	cfg := &Config{Peers: []string{"toy"}, Listen: "127.0.0.1:0", Log: loudTo(g.log)}
	if change != nil {
		change(cfg)
	}
	if err := cfg.setDefaults(); err != nil {
		t.Fatal(err)
	}
	fd, addr, err := listen(cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(cfg, time.Now())
	s.laddr, s.figures = addr, func() figures { return figures{domain: "nothing"} }
	if g.loop, err = newLoop(cfg, g.toy, g.toy, s, fd); err != nil {
		t.Fatal(err)
	}
	g.addr = addr
	return g
}

// run starts the goroutines; they end with the test.
func (g *rig) run() *rig {
	var aside sync.WaitGroup
	for _, r := range g.loop.reactors[1:] {
		aside.Go(func() {
			if err := r.serveAside(); err != nil {
				g.t.Error(err)
			}
		})
	}
	go func() { g.done <- g.loop.serveForever() }()
	g.t.Cleanup(func() {
		g.toy.set(func() { g.toy.stuck, g.toy.late = false, false })
		g.loop.mail.put(message{end: finish})
		select {
		case err := <-g.done:
			if err != nil {
				g.t.Errorf("the loop ended with: %v", err)
			}
		case <-time.After(10 * time.Second):
			buf := make([]byte, 1<<16)
			g.t.Fatalf("the loop does not end:\n%s", buf[:runtime.Stack(buf, true)])
		}
		for _, r := range g.loop.reactors[1:] {
			r.mail.put(message{end: leave})
		}
		aside.Wait()
		g.loop.close()
	})
	return g
}

func start1(t testing.TB, change func(*Config)) *rig { return newRig(t, change).run() }

// client is a raw socket with a deadline.
type client struct {
	t testing.TB
	net.Conn
	r *resp.ReplyReader
}

func (g *rig) dial() *client {
	g.t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	g.t.Cleanup(func() { c.Close() })
	return &client{t: g.t, Conn: c, r: resp.NewReplyReader(c)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// do sends one command.
func (c *client) do(args ...string) string {
	c.t.Helper()
	c.send(cmd(args...))
	return c.reply()
}

// reply is the next reply's bytes.
func (c *client) reply() string {
	c.t.Helper()
	raw, err := c.r.NextRaw()
	if err != nil {
		c.t.Fatalf("reading a reply: %v", err)
	}
	return string(raw)
}

func (c *client) replies(n int) string {
	c.t.Helper()
	var all strings.Builder
	for range n {
		all.WriteString(c.reply())
	}
	return all.String()
}

// rest is everything until the server closes.
func (c *client) rest() string {
	c.t.Helper()
	var all strings.Builder
	for {
		raw, err := c.r.NextRaw()
		if err == io.EOF {
			return all.String()
		}
		if err != nil {
			c.t.Fatalf("after %q: %v", all.String(), err)
		}
		all.Write(raw)
	}
}

func cmd(args ...string) string { return string(resp.AppendCommand(nil, args...)) }

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

// await waits for a condition.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for: %s", what)
		}
		runtime.Gosched()
	}
}

// received is how many bytes the rig has read from its clients.
func (g *rig) received() (n uint64) {
	for _, r := range g.loop.reactors {
		n += r.shown.in.Load()
	}
	return n
}

func (g *rig) opened() (n int64) {
	for _, r := range g.loop.reactors {
		n += r.shown.open.Load()
	}
	return n
}
