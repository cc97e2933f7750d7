package node

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/poller"
	"whale/internal/resp"
)

// eachWay runs a test with the loop alone, and with further reactors.
func eachWay(t *testing.T, test func(t *testing.T, threads func(*Config))) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d threads", n), func(t *testing.T) {
			test(t, func(c *Config) { c.Threads = n })
		})
	}
}

// script is commands of every kind: run here, read, written, refused, empty, inline, quoted.
const script = "PING\r\n" +
	"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nhello\r\n" +
	"*2\r\n$3\r\nGET\r\n$1\r\na\r\n" +
	"\r\n" +
	"set b \"x \\x41 y\"\r\n" +
	"*0\r\n" +
	"*4\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n" +
	"NOSUCH thing\r\n" +
	"GET\r\n" +
	"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n" +
	"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n" +
	"HELLO 3\r\n" +
	"GET none\r\n" +
	"HELLO 2\r\n" +
	"DEL a b n\r\n" +
	"GET none\r\n"

const scriptReplies = 14

func TestPipelineSplitAtEveryByte(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		g := start1(t, threads)
		c := g.dial()
		c.send(script)
		whole := c.replies(scriptReplies)
		for _, want := range []string{"+PONG\r\n+OK\r\n$5\r\nhello\r\n+OK\r\n*3\r\n", bulk("x A y"), "unknown command 'NOSUCH'", "wrong number of arguments for 'get'", ":1\r\n$0\r\n\r\n%", "_\r\n*", ":3\r\n$-1\r\n"} {
			if !strings.Contains(whole, want) {
				t.Fatalf("the whole script in one piece: %q, want %q in it", whole, want)
			}
		}
		for i := 1; i < len(script); i++ {
			before := g.received()
			c.send(script[:i])
			await(t, "the first piece to be read", func() bool { return g.received() >= before+uint64(i) })
			c.send(script[i:])
			if got := c.replies(scriptReplies); got != whole {
				t.Fatalf("split at %d: %q\nwant %q", i, got, whole)
			}
		}
	})
}

func TestEveryByteAlone(t *testing.T) {
	g := start1(t, nil)
	c := g.dial()
	c.send(script)
	whole := c.replies(scriptReplies)
	for i := range len(script) {
		c.send(script[i : i+1])
	}
	if got := c.replies(scriptReplies); got != whole {
		t.Fatalf("byte by byte: %q\nwant %q", got, whole)
	}
}

func TestRepliesKeepTheirOrder(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		g := start1(t, threads)
		c := g.dial()
		// The writes hang in the engine; everything behind them has to wait its turn, though it is there at once.
		g.toy.set(func() { g.toy.late = true })
		c.send(cmd("SET", "a", "1") + cmd("PING") + cmd("NOSUCH") + cmd("GET", "a") + cmd("HELLO", "3") + cmd("GET", "none") + cmd("INFO", "cluster") + cmd("PING"))
		await(t, "four submitted commands", func() bool { return g.toy.get(func() int { return len(g.toy.done) }) >= 3 })
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); n > 0 || !os.IsTimeout(err) {
			t.Fatalf("a reply overtook one before it: %d, %v", n, err)
		}
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n := g.toy.get(func() int { return g.toy.behind }); n != 2 {
			t.Errorf("%d requests submitted as standing behind others, want the two GETs", n)
		}
		g.toy.set(func() { g.toy.late = false })
		got := c.replies(8)
		want := "+OK\r\n+PONG\r\n-ERR unknown command 'NOSUCH', with args beginning with: \r\n" + bulk("1")
		if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "+PONG\r\n") || !strings.Contains(got, "_\r\n=") {
			t.Fatalf("got  %q\nwant %q... %q ... ", got, want, "_\\r\\n=")
		}
	})
}

// Whatever the order in which the engine completes them, and however the stream is cut, each client sees its own replies
// in the order of its commands.
func TestRandomCompletionOrder(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		g := start1(t, threads)
		g.toy.set(func() { g.toy.shuffle = rand.New(rand.NewPCG(1, 2)); g.toy.forward = true })
		errs := make(chan error, 8)
		for id := range cap(errs) {
			c := g.dial()
			go func() { errs <- c.countingClient(id, 3000) }()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}

// countingClient sends n commands in pieces of any size, each with a number in it that the reply repeats.
func (c *client) countingClient(id, n int) error {
	rng := rand.New(rand.NewPCG(uint64(id), 3))
	var stream []byte
	var want []string
	for i := range n {
		key := fmt.Sprintf("%d:%d", id, i)
		switch rng.IntN(5) {
		case 0:
			stream = resp.AppendCommand(stream, "ECHO", key)
			want = append(want, bulk(key))
		case 1:
			stream = resp.AppendCommand(stream, "NO"+key)
			want = append(want, "-ERR unknown command 'NO"+key+"', with args beginning with: \r\n")
		default:
			value := strings.Repeat("v", rng.IntN(1+rng.IntN(2000))) + key
			stream = resp.AppendCommand(stream, "SET", key, value)
			stream = resp.AppendCommand(stream, "GET", key)
			want = append(want, "+OK\r\n", bulk(value))
		}
	}
	sent := make(chan error, 1)
	go func() {
		for len(stream) > 0 {
			k := min(1+rng.IntN(1+rng.IntN(50_000)), len(stream))
			if _, err := c.Write(stream[:k]); err != nil {
				sent <- err
				return
			}
			stream = stream[k:]
		}
		sent <- nil
	}()
	for i, w := range want {
		raw, err := c.r.NextRaw()
		if err != nil {
			return fmt.Errorf("client %d, reply %d: %w", id, i, err)
		}
		if string(raw) != w {
			return fmt.Errorf("client %d, reply %d: %.60q, want %.60q", id, i, raw, w)
		}
	}
	return <-sent
}

func TestHugeValue(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		g := start1(t, threads)
		c := g.dial()
		value := make([]byte, 24<<20)
		rng := rand.New(rand.NewPCG(7, 7))
		for i := 0; i < len(value); i += 97 {
			value[i] = byte(rng.Uint32())
		}
		go c.Write(resp.AppendCommand(resp.AppendCommand(nil, []byte("SET"), []byte("big"), value), []byte("GET"), []byte("big")))
		if r := c.reply(); r != "+OK\r\n" {
			t.Fatalf("SET: %.60q", r)
		}
		r, err := c.r.Next()
		if err != nil || !bytes.Equal(r.Str, value) {
			t.Fatalf("GET returned %d bytes, %v", len(r.Str), err)
		}
	})
}

func TestTooHugeIsRefusedAndClosed(t *testing.T) {
	g := start1(t, func(c *Config) { c.Limits.MaxBulk = 1000 })
	c := g.dial()
	c.send("PING\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1001\r\n")
	if got := c.rest(); got != "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n" {
		t.Fatalf("%q", got)
	}
}

// The reason for the end must not be lost because the client had sent more: unread input makes the kernel reset the
// connection.
func TestReasonArrivesBeforeTheEnd(t *testing.T) {
	g := newRig(t, nil)
	c := g.dial()
	c.send("*x\r\n" + strings.Repeat("more", 12_000)) // all of it is there when the loop begins
	g.run()
	if got := c.rest(); got != "-ERR Protocol error: invalid multibulk length\r\n" {
		t.Fatalf("%q", got)
	}
}

// What is announced, but not sent, must not cost memory.
func TestAnnouncedIsNotAllocated(t *testing.T) {
	g := newRig(t, nil)
	defer g.loop.close()
	d := g.dial()
	d.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$60000000\r\n")
	for g.received() == 0 {
		g.turn()
	}
	sent, part := 0, strings.Repeat("x", 1000)
	for ; sent < 10_000; sent += len(part) {
		before := g.received()
		d.send(part)
		for g.received() == before {
			g.turn()
		}
	}
	for _, c := range g.loop.conns {
		if c != nil && len(c.in) > 8*sent {
			t.Errorf("%d bytes of an announced 60 MB take a buffer of %d bytes", sent, len(c.in))
		}
	}
}

// turn is one round of a loop that is run by the test.
func (g *rig) turn() {
	g.t.Helper()
	if _, err := g.loop.round(monotonic()); err != nil {
		g.t.Fatal(err)
	}
	if err := g.loop.look(0); err != nil {
		g.t.Fatal(err)
	}
}

func TestGarbage(t *testing.T) {
	g := start1(t, nil)
	good := g.dial()
	rng := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		c := g.dial()
		b := make([]byte, rng.IntN(3000))
		for i := range b {
			switch rng.IntN(3) {
			case 0:
				b[i] = "*$\r\n0123456789-"[rng.IntN(15)]
			default:
				b[i] = byte(rng.Uint32())
			}
		}
		c.Write(append(b, "\r\n*bad\r\n"...))
		c.CloseWrite()
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("after %q: %v", b, err)
		}
	}
	if r := good.do("PING"); r != "+PONG\r\n" {
		t.Fatalf("the others' garbage spoiled this connection: %q", r)
	}
	await(t, "the bad connections to be gone", func() bool { return g.opened() == 1 })
}

func (c *client) CloseWrite() { c.Conn.(*net.TCPConn).CloseWrite() }

func TestHalfCloseIsAnsweredFirst(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		g := start1(t, threads)
		g.toy.set(func() { g.toy.stuck = true })
		c := g.dial()
		c.send(cmd("SET", "a", "1") + cmd("GET", "a") + "*1\r\n$4\r\nPI") // the last one is never finished
		c.CloseWrite()
		await(t, "the commands", func() bool { return g.toy.get(func() int { return g.toy.submitted }) == 2 })
		g.toy.set(func() { g.toy.stuck = false })
		if got := c.rest(); got != "+OK\r\n"+bulk("1") {
			t.Fatalf("%q", got)
		}
		await(t, "the connection to be gone", func() bool { return g.opened() == 0 })
	})
}

// The end of a stream often comes together with its last bytes, and nothing tells of it a second time.
func TestEndBehindTheLastBytes(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		g := start1(t, threads)
		for range 100 {
			c := g.dial()
			c.send(cmd("PING"))
			c.CloseWrite()
			if got := c.rest(); got != "+PONG\r\n" {
				t.Fatalf("%q", got)
			}
		}
		await(t, "the connections to be gone", func() bool { return g.opened() == 0 })
	})
}

func TestQuit(t *testing.T) {
	g := start1(t, nil)
	g.toy.set(func() { g.toy.late = true })
	c := g.dial()
	c.send(cmd("SET", "a", "1") + cmd("QUIT") + cmd("SET", "a", "2"))
	await(t, "the write", func() bool { return g.toy.get(func() int { return len(g.toy.done) }) == 1 })
	g.toy.set(func() { g.toy.late = false })
	if got := c.rest(); got != "+OK\r\n+OK\r\n" {
		t.Fatalf("%q", got)
	}
	if v := g.dial().do("GET", "a"); v != bulk("1") {
		t.Fatalf("a command behind QUIT was executed: %q", v)
	}
}

func TestWaitIsABarrier(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		g := start1(t, threads)
		g.toy.set(func() { g.toy.late = true })
		c := g.dial()
		stream := cmd("SET", "a", "1") + cmd("WAIT", "2", "0") + cmd("SET", "a", "2") + cmd("WAIT", "x", "0") + cmd("GET", "a")
		c.send(stream)
		await(t, "all to be read", func() bool { return g.received() >= uint64(len(stream)) })
		await(t, "the first to be submitted", func() bool { return g.toy.get(func() int { return g.toy.submitted }) >= 1 })
		if n := g.toy.get(func() int { return g.toy.submitted }); n != 1 {
			t.Fatalf("%d requests were submitted before the first was answered, want 1", n)
		}
		g.toy.set(func() { g.toy.late = false })
		if got, want := c.replies(5), "+OK\r\n:2\r\n+OK\r\n-ERR value is not an integer or out of range\r\n"+bulk("2"); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

func TestStuckEngineHoldsTheClientBack(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		g := start1(t, threads)
		g.toy.set(func() { g.toy.stuck = true })
		c := g.dial()
		const n = 40_000
		want := func(i int) string { return fmt.Sprintf("value-%d", i) }
		written := make(chan error, 1)
		go func() {
			var b []byte
			for i := range n {
				b = resp.AppendCommand(b[:0], "SET", fmt.Sprintf("key-%d", i), want(i)+strings.Repeat("x", 600))
				if _, err := c.Write(b); err != nil {
					written <- err
					return
				}
			}
			written <- nil
		}()
		// It is held back when the number of bytes read stays the same while the client still has something to send.
		last := uint64(0)
		await(t, "the reading to stop", func() bool {
			time.Sleep(20 * time.Millisecond)
			now := g.received()
			stopped := now == last && now > 0
			last = now
			return stopped
		})
		if last > 4<<20 {
			t.Errorf("%d bytes were read although nothing was executed", last)
		}
		if most := g.toy.get(func() int { return g.toy.most }); most > maxUnanswered {
			t.Errorf("%d requests of one connection were with the engine, at most %d should be", most, maxUnanswered)
		}
		g.toy.set(func() { g.toy.stuck = false })
		for i := range n {
			if r := c.reply(); r != "+OK\r\n" {
				t.Fatalf("SET %d: %q", i, r)
			}
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		for i := range n {
			key := fmt.Sprintf("key-%d", i)
			if ok := g.toy.get(func() int { return bytes.Index(g.toy.data[key], []byte(want(i)+"x")) }); ok != 0 {
				t.Fatalf("%s has %.40q: its bytes were overwritten while the engine still needed them", key, g.toy.data[key])
			}
		}
	})
}

func TestSlowReaderHoldsItselfBackOnly(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		g := start1(t, threads)
		big := strings.Repeat("b", 256<<10)
		other := g.dial()
		other.do("SET", "big", big)
		slow := g.dial()
		const n = 400 // 100 MiB of replies
		slow.send(strings.Repeat(cmd("GET", "big"), n))
		last := uint64(0)
		await(t, "the answering to stop", func() bool {
			time.Sleep(20 * time.Millisecond)
			now := g.loop.server.sentBytes()
			stopped := now == last && now > 0
			last = now
			return stopped
		})
		if last > n*uint64(len(big))/2 {
			t.Fatalf("%d bytes were sent to a client that reads nothing", last)
		}
		if r := other.do("PING"); r != "+PONG\r\n" {
			t.Fatalf("another client: %q", r)
		}
		for i := range n {
			if r := slow.reply(); len(r) != len(bulk(big)) {
				t.Fatalf("reply %d has %d bytes", i, len(r))
			}
		}
	})
}

// sentBytes is what all reactors have written.
func (s *server) sentBytes() (n uint64) {
	for _, r := range s.loop.reactors {
		n += r.shown.out.Load()
	}
	return n
}

func TestTooMuchOutputIsAnEnd(t *testing.T) {
	g := newRig(t, nil)
	g.loop.maxOutput = 8 << 20
	g.run()
	g.toy.set(func() { g.toy.forward = true })
	other := g.dial()
	other.do("SET", "big", strings.Repeat("b", 1<<20))
	g.toy.set(func() { g.toy.stuck = true })
	c := g.dial()
	c.send(strings.Repeat(cmd("GET", "big"), 30)) // all are with the engine before the first reply is there
	await(t, "the commands", func() bool { return g.toy.get(func() int { return len(g.toy.queue) }) == 30 })
	g.toy.set(func() { g.toy.stuck = false })
	await(t, "the client to be disconnected", func() bool { return g.opened() == 1 })
	if text := g.log.String(); !strings.Contains(text, "does not read them") || !strings.Contains(text, c.LocalAddr().String()) {
		t.Errorf("the log does not name the client and the reason: %s", text)
	}
	if r := other.do("PING"); r != "+PONG\r\n" {
		t.Fatalf("another client: %q", r)
	}
}

func TestManyConnections(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		g := start1(t, threads)
		for round := range 3 {
			var clients []*client
			for range 1000 {
				clients = append(clients, g.dial())
			}
			for i, c := range clients {
				c.send(cmd("SET", fmt.Sprint("k", i), fmt.Sprint(i)) + cmd("GET", fmt.Sprint("k", i)))
			}
			for i, c := range clients {
				if got := c.replies(2); got != "+OK\r\n"+bulk(fmt.Sprint(i)) {
					t.Fatalf("client %d: %q", i, got)
				}
			}
			if n := strings.Count(clients[0].do("CLIENT", "LIST"), " addr="); n != 1000 {
				t.Errorf("CLIENT LIST shows %d", n)
			}
			for i, c := range clients {
				if i%3 == 0 { // some leave with a command on its way
					c.Write([]byte(cmd("SET", "x", "y")))
				}
				c.Close()
			}
			await(t, fmt.Sprint("all connections of round ", round, " to be gone"), func() bool { return g.opened() == 0 && g.loop.server.connected() == 0 })
		}
	})
}

// A client that goes away leaves its requests with the engine, which still needs their bytes; they come back to a
// connection that is closed.
func TestClientGoneWhileTheEngineWorks(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		g := start1(t, threads)
		g.toy.set(func() { g.toy.stuck = true })
		const clients, each = 20, 50
		value := func(i, j int) string { return strings.Repeat(fmt.Sprintf("%d.%d ", i, j), 50) }
		for i := range clients {
			c := g.dial()
			var stream []byte
			for j := range each {
				stream = resp.AppendCommand(stream, "SET", fmt.Sprintf("gone:%d:%d", i, j), value(i, j))
			}
			c.send(string(stream) + cmd("WAIT", "1", "0"))
			await(t, "its commands", func() bool { return g.toy.get(func() int { return g.toy.submitted }) == (i+1)*each })
			c.Conn.(*net.TCPConn).SetLinger(0) // a reset, not an orderly end
			c.Close()
			await(t, "its end", func() bool { return g.opened() == 0 })
		}
		g.toy.set(func() { g.toy.stuck = false })
		if v := g.dial().do("PING"); v != "+PONG\r\n" {
			t.Fatal(v)
		}
		await(t, "the engine", func() bool { return g.toy.get(func() int { return len(g.toy.data) }) == clients*each })
		for i := range clients {
			for j := range each {
				key := fmt.Sprintf("gone:%d:%d", i, j)
				if g.toy.get(func() int { return strings.Compare(string(g.toy.data[key]), value(i, j)) }) != 0 {
					t.Fatalf("%s has %.40q: its bytes were overwritten while the engine still needed them", key, g.toy.data[key])
				}
			}
		}
	})
}

// Buffers belong to connections that have something in them.
func TestIdleConnectionsHaveNoBuffers(t *testing.T) {
	g := newRig(t, nil)
	defer g.loop.close()
	var clients []*client
	for range 100 {
		c := g.dial()
		c.send("PING\r\n")
		clients = append(clients, c)
	}
	for g.received() < 600 {
		g.turn()
	}
	g.turn()
	for _, c := range g.loop.conns {
		if c != nil && (c.in != nil || c.out.Buf != nil) {
			t.Fatalf("an idle connection holds buffers of %d and %d bytes", cap(c.in), cap(c.out.Buf))
		}
	}
	for _, c := range clients {
		if r := c.reply(); r != "+PONG\r\n" {
			t.Fatal(r)
		}
	}
}

// In the steady state a command allocates nothing: neither one that is answered at once, nor one that goes through the
// engine, nor a pipeline.
func TestCommandsAllocateNothing(t *testing.T) {
	for _, c := range []struct{ name, stream, want string }{
		{"PING", cmd("PING"), "+PONG\r\n"},
		{"GET", cmd("GET", "none"), "$-1\r\n"},
		{"SET", cmd("SET", "k", "value"), "+OK\r\n"},
		{"pipeline", strings.Repeat(cmd("SET", "k", "value")+cmd("GET", "none")+cmd("PING"), 20), strings.Repeat("+OK\r\n$-1\r\n+PONG\r\n", 20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, nil)
			defer g.loop.close()
			g.toy.data["k"] = []byte("value")
			g.toy.still = true
			fd := g.rawDial()
			defer unix.Close(fd)
			stream, buf := []byte(c.stream), make([]byte, len(c.want))
			once := func() {
				poller.Write(fd, stream)
				for n := 0; n < len(c.want); {
					g.turn()
					if k, err := poller.Read(fd, buf[n:]); err == nil {
						n += k
					}
				}
				if string(buf) != c.want {
					t.Fatalf("%q", buf)
				}
			}
			for range 10 {
				once()
			}
			if n := testing.AllocsPerRun(200, once); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// rawDial is a non-blocking connection of which Go's runtime knows nothing.
func (g *rig) rawDial() int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		ap, _ := resolve(g.addr)
		err = unix.Connect(fd, sockaddr(ap))
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return fd
}

func TestMaxClients(t *testing.T) {
	g := start1(t, func(c *Config) { c.MaxClients = 2 })
	a, b := g.dial(), g.dial()
	a.do("PING")
	b.do("PING")
	if got := g.dial().rest(); got != "-ERR max number of clients reached\r\n" {
		t.Fatalf("%q", got)
	}
	a.Close()
	await(t, "room", func() bool { return g.loop.server.connected() == 1 })
	if r := g.dial().do("PING"); r != "+PONG\r\n" {
		t.Fatal(r)
	}
}

// Out of descriptors, a node goes on with the clients that it has, looks away from the others instead of spinning, and
// takes them when it can.
func TestOutOfDescriptors(t *testing.T) {
	g := newRig(t, nil)
	defer g.loop.close()
	var fds []int
	for range 10 {
		fds = append(fds, g.rawDial())
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	tight := old
	tight.Cur = uint64(fds[9] + 4)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &tight); err != nil {
		t.Fatal(err)
	}
	for g.loop.crowded == 0 {
		g.turn()
	}
	g.turn()
	taken := g.loop.server.connected()
	d := g.loop.idleTime(monotonic())
	unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	if taken == 0 || taken == 10 || d < 0 || d > acceptPause {
		t.Errorf("%d of 10 clients taken, then idle for %v", taken, d)
	}
	await(t, "the rest to be taken", func() bool { g.turn(); return g.loop.server.connected() == 10 })
	if n := strings.Count(g.log.String(), "cannot accept"); n != 1 {
		t.Errorf("%d lines in the log, want 1: %s", n, g.log)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func TestStopAnswersWhatIsUnderWay(t *testing.T) {
	g := newRig(t, nil)
	go func() { g.done <- g.loop.serveForever() }()
	c, idle := g.dial(), g.dial()
	idle.do("PING")
	g.toy.set(func() { g.toy.late = true })
	c.send(cmd("SET", "a", "1"))
	await(t, "the write", func() bool { return g.toy.get(func() int { return len(g.toy.done) }) == 1 })
	g.loop.mail.put(message{end: finish})
	if got := idle.rest(); got != "" { // closed at once
		t.Fatalf("%q", got)
	}
	g.toy.set(func() { g.toy.late = false })
	if got := c.rest(); got != "+OK\r\n" {
		t.Fatalf("%q", got)
	}
	if err := <-g.done; err != nil {
		t.Fatal(err)
	}
	g.loop.close()
}
