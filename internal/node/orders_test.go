package node

import (
	"fmt"
	"strings"
	"testing"
)

// both runs a test with the connections on one goroutine, and on two.
func both(t *testing.T, run func(t *testing.T, g *rig)) {
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprint(threads, " threads"), func(t *testing.T) {
			run(t, start1(t, func(c *Config) { c.Threads, c.SlowMax, c.SlowerThan = threads, 10, -1 }))
		})
	}
}

// id of a connection.
func (c *client) id() string { return strings.Trim(c.do("CLIENT", "ID"), ":\r\n") }

func TestClientKill(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		a, b, c := g.dial(), g.dial(), g.dial()
		b.do("PING")
		if got := a.do("CLIENT", "KILL", "ID", b.id()); got != ":1\r\n" {
			t.Fatalf("%q", got)
		}
		if got := b.rest(); got != "" {
			t.Errorf("the killed one: %q", got)
		}
		c.do("PING")
		if got := a.do("CLIENT", "KILL", "TYPE", "normal"); got != ":1\r\n" || c.rest() != "" {
			t.Errorf("%q", got)
		}
		// Its own connection is answered first.
		a.send(cmd("CLIENT", "KILL", "ID", a.id(), "SKIPME", "no") + cmd("PING"))
		if got := a.rest(); got != ":1\r\n" {
			t.Errorf("its own: %q", got)
		}
	})
}

func TestClientPause(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		a, b := g.dial(), g.dial()
		a.do("SET", "k", "1")
		if got := a.do("CLIENT", "PAUSE", "1000000", "WRITE"); got != "+OK\r\n" {
			t.Fatalf("%q", got)
		}
		// Reads pass; a write and what is behind it on its connection waits.
		b.send(cmd("GET", "k") + cmd("SET", "k", "2") + cmd("GET", "k") + cmd("PING"))
		if got := b.reply(); got != bulk("1") {
			t.Fatalf("%q", got)
		}
		if got := a.do("GET", "k"); got != bulk("1") {
			t.Errorf("a read: %q", got)
		}
		if got := a.do("CLIENT", "UNPAUSE"); got != "+OK\r\n" {
			t.Errorf("%q", got)
		}
		if got := b.replies(3); got != "+OK\r\n"+bulk("2")+"+PONG\r\n" {
			t.Errorf("afterwards: %q", got)
		}
		// Everything waits, until the time is over.
		if got := a.do("CLIENT", "PAUSE", "30"); got != "+OK\r\n" {
			t.Fatalf("%q", got)
		}
		before := monotonic()
		if got := b.do("GET", "k"); got != bulk("2") || monotonic()-before < 20e6 {
			t.Errorf("%q after %d ns", got, monotonic()-before)
		}
		// A client that goes away meanwhile leaves nothing behind.
		a.do("CLIENT", "PAUSE", "1000000")
		c := g.dial()
		c.send(cmd("SET", "k", "3"))
		c.Close()
		a.do("CLIENT", "UNPAUSE")
		if got := a.do("PING"); got != "+PONG\r\n" {
			t.Errorf("%q", got)
		}
	})
}

func TestClientReplyOff(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		c := g.dial()
		c.send(cmd("SET", "k", "1") + cmd("CLIENT", "REPLY", "OFF") + cmd("SET", "k", "2") + cmd("GET", "k") + cmd("NONSENSE") + cmd("PING") +
			cmd("CLIENT", "REPLY", "ON") + cmd("GET", "k") + cmd("CLIENT", "REPLY", "SKIP") + cmd("GET", "k") + cmd("PING"))
		if got, want := c.replies(4), "+OK\r\n+OK\r\n"+bulk("2")+"+PONG\r\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestUnblock(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		a, b := g.dial(), g.dial()
		id := b.id()
		g.toy.set(func() { g.toy.stuck = true })
		for _, c := range []struct{ how, want string }{{"TIMEOUT", ":0\r\n"}, {"ERROR", "-" + errUnblocked + "\r\n"}} {
			b.send(cmd("WAIT", "1", "0"))
			await(t, "the WAIT", func() bool { return strings.Contains(a.do("CLIENT", "LIST", "ID", id), " flags=b ") })
			if got := a.do("CLIENT", "UNBLOCK", id, c.how); got != ":1\r\n" {
				t.Errorf("%s: %q", c.how, got)
			}
			if got := b.reply(); got != c.want {
				t.Errorf("%s: the one that waited: %q", c.how, got)
			}
			if got := a.do("CLIENT", "UNBLOCK", id, c.how); got != ":0\r\n" {
				t.Errorf("%s: %q once it does not wait", c.how, got)
			}
		}
		g.toy.set(func() { g.toy.stuck = false })
	})
}

func TestMonitor(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		m, a, b := g.dial(), g.dial(), g.dial()
		if got := m.do("MONITOR"); got != "+OK\r\n" {
			t.Fatalf("%q", got)
		}
		for i, c := range []*client{a, b} {
			c.do("SET", "k", fmt.Sprint(i))
			if got := m.reply(); !strings.HasSuffix(got, fmt.Sprintf(`[0 %s] "SET" "k" "%d"`+"\r\n", c.LocalAddr(), i)) {
				t.Errorf("%q", got)
			}
		}
		a.do("CONFIG", "GET", "port") // is for operators, and not shown
		a.do("AUTH", "default", "secret")
		if got := m.reply(); !strings.HasSuffix(got, `"AUTH" "(redacted)" "(redacted)"`+"\r\n") {
			t.Errorf("%q", got)
		}
		if got := m.do("RESET"); !strings.Contains(got, `"RESET"`) || m.reply() != "+RESET\r\n" {
			t.Errorf("%q", got)
		}
		a.do("SET", "k", "1")
		if got := m.do("PING"); got != "+PONG\r\n" {
			t.Errorf("after RESET: %q", got)
		}
		if n := g.loop.server.monitors.Load(); n != 0 {
			t.Errorf("%d monitors are left", n)
		}
		b.do("MONITOR")
		b.Close()
		await(t, "the monitor that went away", func() bool { return g.loop.server.monitors.Load() == 0 })
	})
}

func TestPassword(t *testing.T) {
	g := start1(t, func(c *Config) { c.Password = "secret" })
	a := g.dial()
	for _, c := range []struct{ line, want string }{
		{"GET k", "-NOAUTH Authentication required.\r\n"},
		{"NONSENSE", "-ERR unknown command 'NONSENSE', with args beginning with: \r\n"},
		{"SUBSCRIBE a", "-ERR unknown command 'SUBSCRIBE', with args beginning with: 'a' \r\n"},
		{"PING", "-NOAUTH Authentication required.\r\n"},
		{"AUTH wrong", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"},
		{"GET k", "-NOAUTH Authentication required.\r\n"},
		{"AUTH secret", "+OK\r\n"},
		{"GET k", "$-1\r\n"},
		{"CONFIG SET requirepass other", "+OK\r\n"},
		{"GET k", "$-1\r\n"}, // who is in stays in
	} {
		if got := a.do(strings.Fields(c.line)...); got != c.want {
			t.Errorf("%s: %q, want %q", c.line, got, c.want)
		}
	}
	for _, big := range []string{"*11\r\n", "*2\r\n$4\r\nAUTH\r\n$16385\r\n"} { // a stranger may not make the node hold much
		s := g.dial()
		s.send(big)
		if got := s.rest(); !strings.HasPrefix(got, "-ERR Protocol error: ") {
			t.Errorf("%q: %q", big, got)
		}
	}
	if got := a.do("SET", "k", strings.Repeat("x", 20_000)); got != "+OK\r\n" {
		t.Errorf("who is in may send more: %q", got)
	}
	a.do("DEL", "k")
	b := g.dial()
	if got := b.do("AUTH", "secret"); got[0] != '-' {
		t.Errorf("the old password: %q", got)
	}
	if got := b.do("HELLO", "3", "AUTH", "default", "other"); got[0] != '%' {
		t.Errorf("the new one: %q", got)
	}
	a.do("CONFIG", "SET", "requirepass", "")
	if got := g.dial().do("GET", "k"); got != "$-1\r\n" {
		t.Errorf("without a password: %q", got)
	}
}

// TestSlowLogAndHistogram: commands are timed from arrival to reply, with the arguments that they had.
func TestSlowLogAndHistogram(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		a, b := g.dial(), g.dial()
		a.do("CONFIG", "SET", "slowlog-log-slower-than", "20000", "latency-monitor-threshold", "20")
		a.do("SET", "k", "fast")
		g.toy.set(func() { g.toy.late = true })
		b.send(cmd("SET", "k", "slow"))
		await(t, "the write", func() bool { return g.toy.get(func() int { return len(g.toy.done) }) == 1 })
		began := monotonic()
		await(t, "30 ms", func() bool { return monotonic()-began > 30e6 })
		g.toy.set(func() { g.toy.late = false })
		b.reply()
		log := a.do("SLOWLOG", "GET")
		if !strings.HasPrefix(log, "*1\r\n") || !strings.Contains(log, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\nslow\r\n"+bulk(b.LocalAddr().String())) {
			t.Errorf("the slow log: %q", log)
		}
		if got := a.do("LATENCY", "LATEST"); !strings.HasPrefix(got, "*1\r\n*4\r\n$7\r\ncommand\r\n") {
			t.Errorf("events: %q", got)
		}
		a.do("GET", "k")
		a.do("GET", "k")
		if got := a.do("LATENCY", "HISTOGRAM", "set", "get"); !strings.Contains(got, bulk("set")+"*4\r\n"+bulk("calls")+":2\r\n") ||
			!strings.Contains(got, bulk("get")+"*4\r\n"+bulk("calls")+":2\r\n") {
			t.Errorf("the histogram: %q", got)
		}
		if got := a.do("DEBUG", "SLEEP", "0"); !strings.Contains(got, "not allowed") {
			t.Errorf("%q", got)
		}
		a.do("CONFIG", "RESETSTAT")
		if got := a.do("INFO", "stats"); !strings.Contains(got, "total_connections_received:0\r\n") {
			t.Errorf("after a reset: %q", got)
		}
	})
}

func TestDebugSleep(t *testing.T) {
	g := start1(t, func(c *Config) { c.EnableDebug, c.SlowMax = true, 10 })
	c := g.dial()
	before := monotonic()
	if got := c.do("DEBUG", "SLEEP", "0.03"); got != "+OK\r\n" || monotonic()-before < 30e6 {
		t.Errorf("%q", got)
	}
	if got := c.do("DEBUG", "SLEEP", "-1") + c.do("DEBUG", "SLEEP", "1e9") + c.do("DEBUG", "SLEEP", "x"); strings.Count(got, "-ERR DEBUG SLEEP takes") != 3 {
		t.Errorf("%q", got)
	}
	if got := c.do("DEBUG", "JMAP"); got != "-ERR unknown subcommand or wrong number of arguments for 'JMAP'. Try DEBUG HELP.\r\n" {
		t.Errorf("%q", got)
	}
}
