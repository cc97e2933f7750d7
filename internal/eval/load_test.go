//go:build linux

package eval

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"whale/internal/resp"
)

// server is a Redis of the simplest kind: reply decides what each request gets.
type server struct {
	addr  string
	mu    sync.Mutex
	reply func(args []string) string
	seen  map[string]int // requests by "NAME key"
}

func serve(t *testing.T, reply func(args []string) string) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, reply)
}

func serveOn(t *testing.T, l net.Listener, reply func(args []string) string) *server {
	t.Cleanup(func() { l.Close() })
	s := &server{addr: l.Addr().String(), reply: reply, seen: map[string]int{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.conn(c)
		}
	}()
	return s
}

func (s *server) conn(c net.Conn) {
	defer c.Close()
	r, w := resp.NewReplyReader(c), bufio.NewWriter(c) // a request is an array, as a reply can be
	for {
		req, err := r.Next()
		if err != nil {
			return
		}
		var args []string
		for _, e := range req.Elems {
			args = append(args, string(e.Str))
		}
		s.mu.Lock()
		name := args[0]
		if len(args) > 1 {
			name += " " + args[1]
		}
		s.seen[name]++
		text := s.reply(args)
		s.mu.Unlock()
		w.WriteString(text)
		w.Flush()
	}
}

func (s *server) count(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.seen {
		if strings.HasPrefix(k, prefix) {
			n += v
		}
	}
	return n
}

func ok(args []string) string {
	switch args[0] {
	case "GET":
		return "$10\r\n0123456789\r\n"
	case "WAIT":
		return ":2\r\n"
	}
	return "+OK\r\n"
}

func TestCountsWhatTheServerSaw(t *testing.T) {
	for _, op := range []Op{Set, Get, SetWait} {
		for _, workers := range []int{1, 3} {
			s := serve(t, ok)
			res, err := Load{
				Addrs: []string{s.addr}, Op: op, Conns: 7, Pipeline: 5, Value: 10, Keys: 50, Count: 1000, Warmup: time.Hour, Replicas: 2, Workers: workers,
			}.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := res.Err(); err != nil {
				t.Fatal(err)
			}
			name := strings.Split(op.String(), "+")[0]
			if got := s.count(name); got != 1000 {
				t.Errorf("%s: the server saw %d requests, want 1000", op, got)
			}
			if op == SetWait && s.count("WAIT") != 200 {
				t.Errorf("%d WAITs, want one for each batch: 200", s.count("WAIT"))
			}
			// The warm-up ends when a fifth was sent; batches that were sent before it ended are not measured.
			if res.Ops < 1000-200-7*5 || res.Ops > 1000-200 || res.Latency.TotalCount() != int64(res.Ops) {
				t.Errorf("%s: %d operations measured, %d in the histogram", op, res.Ops, res.Latency.TotalCount())
			}
			if res.Elapsed <= 0 || res.Rate() <= 0 || res.Quantile(50) <= 0 {
				t.Errorf("%s: %v, rate %v, p50 %v", op, res.Elapsed, res.Rate(), res.Quantile(50))
			}
		}
	}
}

func TestInOrderSetsEveryKeyOnce(t *testing.T) {
	for _, workers := range []int{1, 2} {
		s := serve(t, ok)
		if _, err := (Load{Addrs: []string{s.addr}, Conns: 4, Pipeline: 10, Value: 1, Keys: 400, Count: 400, InOrder: true, Workers: workers}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 400 {
			n := s.count(fmt.Sprintf("SET key:%012d", i))
			if workers == 1 && n != 1 {
				t.Fatalf("key %d was set %d times", i, n)
			}
		}
	}
}

func TestKeysAreUniform(t *testing.T) {
	k := newKeys(10, 1, 0, false, 1)
	var seen [10]int
	digits := make([]byte, keyDigits)
	for range 10_000 {
		k.put(digits)
		n, err := strconv.Atoi(string(digits))
		if err != nil || n >= 10 {
			t.Fatalf("key %q", digits)
		}
		seen[n]++
	}
	for i, n := range seen {
		if n < 800 || n > 1200 {
			t.Errorf("key %d was drawn %d times of 10000, want about 1000", i, n)
		}
	}
}

func TestWrongRepliesAreCountedAndFail(t *testing.T) {
	cases := []struct {
		name  string
		op    Op
		reply string // to every third request
		want  string
	}{
		{"error", Set, "-OOM the arena is full\r\n", "OOM"},
		{"another status", Set, "+QUEUED\r\n", "QUEUED"},
		{"missing key", Get, "$-1\r\n", "$-1"},
		{"missing key, RESP3", Get, "_\r\n", "_"},
		{"value of another length", Get, "$3\r\nabc\r\n", "$3"},
		{"too few copies", SetWait, ":1\r\n", "WAIT 2 0"},
	}
	for _, c := range cases {
		n := 0
		s := serve(t, func(args []string) string {
			if args[0] == "WAIT" || c.op != SetWait {
				if n++; n%3 == 0 {
					return c.reply
				}
			}
			return ok(args)
		})
		res, err := Load{Addrs: []string{s.addr}, Op: c.op, Conns: 2, Pipeline: 3, Value: 10, Keys: 5, Count: 90, Replicas: 2}.Run(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		want := uint64(30)
		if c.op == SetWait {
			want = 10
		}
		var sum uint64
		for text, n := range res.Errors {
			if sum += n; !strings.Contains(text, c.want) {
				t.Errorf("%s: counted as %q", c.name, text)
			}
		}
		if sum != want || res.Err() == nil || !strings.Contains(res.Err().Error(), c.want) {
			t.Errorf("%s: %d wrong replies, want %d: %v", c.name, sum, want, res.Err())
		}
	}
}

func TestRunEndsWithAnError(t *testing.T) {
	cases := []struct {
		name  string
		reply string
		want  string
	}{
		{"garbage", "hello\r\n", "not a RESP reply"},
		{"more than was asked for", "+OK\r\n+OK\r\n", "more than the replies"},
		{"silence", "", "no reply for"},
	}
	for _, c := range cases {
		s := serve(t, func([]string) string { return c.reply })
		_, err := Load{Addrs: []string{s.addr}, Conns: 2, Pipeline: 1, Value: 1, Keys: 1, Count: 10, Stall: 300 * time.Millisecond}.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), s.addr) {
			t.Errorf("%s: %v, want %q and the address", c.name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, func(args []string) string { cancel(); return ok(args) })
	if _, err := (Load{Addrs: []string{s.addr}, Conns: 2, Pipeline: 1, Value: 1, Keys: 1, Duration: time.Hour}).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := (Load{Addrs: []string{"127.0.0.1:1"}, Conns: 1, Pipeline: 1, Value: 1, Keys: 1, Count: 1}).Run(t.Context()); err == nil {
		t.Error("nobody listens, yet no error")
	}
}

// A batch larger than the socket takes at once, and replies that come in pieces.
func TestLargeBatches(t *testing.T) {
	const size = 1 << 20
	value := strings.Repeat("v", size)
	s := serve(t, func(args []string) string {
		if args[0] == "GET" {
			return fmt.Sprintf("$%d\r\n%s\r\n", size, value)
		}
		if len(args[2]) != size {
			return "-ERR length\r\n"
		}
		return "+OK\r\n"
	})
	for _, op := range []Op{Set, Get} {
		res, err := Load{Addrs: []string{s.addr}, Op: op, Conns: 2, Pipeline: 8, Value: size, Keys: 3, Count: 32}.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Err(); err != nil {
			t.Error(err)
		}
	}
}
