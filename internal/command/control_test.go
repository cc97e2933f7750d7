package command

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"whale/internal/resp"
)

// TestControl: what commands about connections ask the node to do.
func TestControl(t *testing.T) {
	for _, c := range []struct {
		line, reply string
		done        []string
	}{
		{"CLIENT KILL 127.0.0.1:6000", "+OK", []string{"kill 9"}},
		{"CLIENT KILL ID 9", ":1", []string{"kill 9"}},
		{"CLIENT KILL TYPE normal", ":2", []string{"kill 9", "kill 10"}},
		{"CLIENT KILL TYPE normal ID 10 USER default LADDR 127.0.0.1:7001", ":1", []string{"kill 10"}},
		{"CLIENT KILL ID 10 ADDR 127.0.0.1:6000", ":0", nil},
		{"CLIENT KILL SKIPME yes", ":2", []string{"kill 9", "kill 10"}},
		{"CLIENT PAUSE 50", "+OK", []string{"pause 50 true"}},
		{"CLIENT PAUSE 50 WRITE", "+OK", []string{"pause 50 false"}},
		{"CLIENT UNPAUSE", "+OK", []string{"pause 0 false"}},
		{"CLIENT UNBLOCK 10", ":1", []string{"unblock 10 false"}},
		{"CLIENT UNBLOCK 10 ERROR", ":1", []string{"unblock 10 true"}},
		{"CLIENT UNBLOCK 9", ":0", nil}, // it does not wait
		{"MONITOR", "+OK", []string{"monitor true"}},
		{"RESET", "+RESET", []string{"monitor false"}},
		{"CONFIG RESETSTAT", "+OK", []string{"reset"}},
	} {
		n := newNode(t)
		n.others = []*Client{{ID: 9, Addr: "127.0.0.1:6000", LAddr: "127.0.0.1:7001"}, {ID: 10, Addr: "127.0.0.1:6001", LAddr: "127.0.0.1:7001"}}
		n.others[1].SetWaiting(true)
		if got := n.do(strings.Fields(c.line)...); got != c.reply+"\r\n" || !reflect.DeepEqual(n.done, c.done) || n.client.Quit {
			t.Errorf("%s: %q, asked for %v, quits %v; want %q and %v", c.line, got, n.done, n.client.Quit, c.reply, c.done)
		}
	}
	for _, line := range []string{"CLIENT KILL 127.0.0.1:5000", "CLIENT KILL ID 3 SKIPME no"} {
		n := newNode(t)
		if n.do(strings.Fields(line)...); !n.client.Quit || n.done != nil {
			t.Errorf("%s does not close its own connection when the reply has left", line)
		}
	}
}

func TestClientReply(t *testing.T) {
	var cl Client
	ctx := Ctx{Client: &cl, W: &resp.Writer{}}
	run := func(mode string) {
		cl.Begin()
		ctx.Args = [][]byte{[]byte("CLIENT"), []byte("REPLY"), []byte(mode)}
		clientReply(&ctx)
	}
	muted := func() bool { return cl.Begin() }
	run("OFF")
	if !cl.Muted() || !muted() || !muted() {
		t.Error("OFF: a reply")
	}
	run("SKIP") // changes nothing
	if !cl.Muted() || !muted() {
		t.Error("SKIP while OFF: a reply")
	}
	run("ON")
	if cl.Muted() || muted() || string(ctx.W.Buf) != "+OK\r\n" {
		t.Errorf("ON: no reply, %q", ctx.W.Buf)
	}
	run("SKIP")
	if !cl.Muted() || !muted() || muted() {
		t.Error("SKIP: not exactly the next reply is passed over")
	}
}

func TestAuth(t *testing.T) {
	n := newNode(t)
	n.params.SetPassword("secret")
	for _, c := range []struct {
		line, want string
		authed     bool
	}{
		{"AUTH wrong", "-" + errWrongPass, false},
		{"AUTH other secret", "-" + errWrongPass, false},
		{"HELLO", "-NOAUTH HELLO must be called", false},
		{"HELLO 3 AUTH default wrong", "-" + errWrongPass, false},
		{"AUTH secret", "+OK", true},
		{"HELLO", "*14", true},
		{"RESET", "+RESET", false},
		{"AUTH default secret", "+OK", true},
		{"RESET", "+RESET", false},
		{"HELLO 3 AUTH default secret", "%7", true},
	} {
		if got := n.do(strings.Fields(c.line)...); !strings.HasPrefix(got, c.want) || n.client.Authed != c.authed {
			t.Errorf("%s: %q, authenticated: %v", c.line, got, n.client.Authed)
		}
	}
	if got := n.do("ACL", "LIST"); !strings.Contains(got, "user default on #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ~* &* +@all") {
		t.Errorf("%q", got)
	}
}

func TestSlowLog(t *testing.T) {
	n := newNode(t)
	add := func(took int64, args ...string) {
		var argv [][]byte
		for _, a := range args {
			argv = append(argv, []byte(a))
		}
		cmd := Lookup(argv[0]).Resolve(argv)
		n.notes.Slow.Add(&n.client, n.now, took, AppendMemo(nil, cmd, argv), 3)
	}
	for i := range 5 {
		add(int64(i), "GET", fmt.Sprint("k", i))
	}
	if got := n.do("SLOWLOG", "GET", "2"); got != "*2\r\n*6\r\n:4\r\n:1700000000\r\n:4\r\n*2\r\n$3\r\nGET\r\n$2\r\nk4\r\n$14\r\n127.0.0.1:5000\r\n$0\r\n\r\n"+
		"*6\r\n:3\r\n:1700000000\r\n:3\r\n*2\r\n$3\r\nGET\r\n$2\r\nk3\r\n$14\r\n127.0.0.1:5000\r\n$0\r\n\r\n" {
		t.Errorf("%q", got)
	}
	if got := n.do("SLOWLOG", "LEN"); got != ":3\r\n" {
		t.Errorf("bounded: %q", got)
	}
	n.do("CONFIG", "SET", "slowlog-max-len", "1")
	if got := n.do("SLOWLOG", "LEN"); got != ":1\r\n" {
		t.Errorf("bounded anew: %q", got)
	}
	n.do("SLOWLOG", "RESET")
	if got := n.do("SLOWLOG", "GET", "-1"); got != "*0\r\n" {
		t.Errorf("after a reset: %q", got)
	}
}

func TestMemo(t *testing.T) {
	many := make([]string, 40)
	for i := range many {
		many[i] = "k"
	}
	for _, c := range []struct {
		args []string
		want []string // the first ones
		n    int
	}{
		{[]string{"GET", "a"}, []string{"GET", "a"}, 2},
		{[]string{"SET", "a", strings.Repeat("x", 130)}, []string{"SET", "a", strings.Repeat("x", 128) + "... (2 more bytes)"}, 3},
		{append([]string{"MGET"}, many...), []string{"MGET"}, 32},
		{append([]string{"MGET"}, many[:31]...), []string{"MGET"}, 32},
		{[]string{"AUTH", "secret"}, []string{"AUTH", "(redacted)"}, 2},
		{[]string{"hello", "3", "auth", "default", "secret"}, []string{"hello", "3", "auth", "(redacted)", "(redacted)"}, 5},
		{[]string{"CONFIG", "SET", "requirepass", "secret"}, []string{"CONFIG", "SET", "requirepass", "(redacted)"}, 4},
	} {
		var argv [][]byte
		for _, a := range c.args {
			argv = append(argv, []byte(a))
		}
		memo := AppendMemo(nil, Lookup(argv[0]).Resolve(argv), argv)
		r, n, err := resp.ParseReply(memo)
		if err != nil || n != len(memo) || len(r.Elems) != c.n {
			t.Errorf("%.40q: %q: %d, %v", c.args, memo, len(r.Elems), err)
			continue
		}
		for i, want := range c.want {
			if got := string(r.Elems[i].Str); got != want {
				t.Errorf("%.40q: argument %d is %q", c.args, i, got)
			}
		}
	}
	var huge [][]byte
	for range 1000 {
		huge = append(huge, []byte(strings.Repeat("y", 10_000)))
	}
	if memo := AppendMemo(nil, Lookup([]byte("mget")), huge); len(memo) > 2*memoLength {
		t.Errorf("a memo of %d bytes", len(memo))
	} else if r, _, err := resp.ParseReply(memo); err != nil || !strings.HasSuffix(string(r.Elems[len(r.Elems)-1].Str), "more arguments)") {
		t.Errorf("%q, %v", memo, err)
	}
}

func TestLatency(t *testing.T) {
	n := newNode(t)
	get, set := Lookup([]byte("get")), Lookup([]byte("set"))
	for _, s := range []struct {
		cmd      *Command
		at, took int64
	}{{get, 1000, 5}, {get, 1500, 7}, {get, 1900, 6}, {get, 2100, 3}, {set, 3000, 20}} {
		n.notes.Latency.Add(s.cmd, s.at, s.took)
	}
	for line, want := range map[string]string{
		"LATENCY LATEST":               "*2\r\n*4\r\n$7\r\ncommand\r\n:3\r\n:20\r\n:20\r\n*4\r\n$12\r\nfast-command\r\n:2\r\n:3\r\n:7\r\n",
		"LATENCY HISTORY fast-command": "*2\r\n*2\r\n:1\r\n:7\r\n*2\r\n:2\r\n:3\r\n",
	} {
		if got := n.do(strings.Fields(line)...); got != want {
			t.Errorf("%s: %q", line, got)
		}
	}
	if got := n.do("LATENCY", "DOCTOR"); !strings.Contains(got, "disabled") {
		t.Errorf("%q", got)
	}
	n.do("CONFIG", "SET", "latency-monitor-threshold", "5")
	if got := n.do("LATENCY", "DOCTOR"); !strings.Contains(got, "fast-command: 2 seconds with an event, 5 ms in the mean, 7 ms at worst.") {
		t.Errorf("%q", got)
	}
	if got := n.do("LATENCY", "RESET", "command", "none") + n.do("LATENCY", "RESET"); got != ":1\r\n:1\r\n" {
		t.Errorf("%q", got)
	}
	for i := range int64(1000) {
		n.notes.Latency.Add(get, i*1000, 1)
	}
	if got := len(n.notes.Latency.series["fast-command"].samples); got != keptSamples {
		t.Errorf("%d samples are kept", got)
	}
}

func TestHistogram(t *testing.T) {
	n := newNode(t)
	h := &n.notes.Times[0][Lookup([]byte("get")).Index()]
	for _, us := range []int64{-1, 0, 1, 2, 3, 4, 5, 1 << 40} {
		h.Add(us, 1)
	}
	h.Add(4, 10)
	if got, want := n.do("LATENCY", "HISTOGRAM", "get", "SET"),
		"*2\r\n$3\r\nget\r\n*4\r\n$5\r\ncalls\r\n:18\r\n$14\r\nhistogram_usec\r\n*10\r\n:1\r\n:3\r\n:2\r\n:4\r\n:4\r\n:16\r\n:8\r\n:17\r\n:33554432\r\n:18\r\n"; got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
	n.do("CONFIG", "RESETSTAT")
	if got := n.do("LATENCY", "HISTOGRAM"); got != "*0\r\n" {
		t.Errorf("after a reset: %q", got)
	}
}

func TestMonitorLine(t *testing.T) {
	cl := &Client{Addr: "127.0.0.1:5000"}
	args := [][]byte{[]byte("SET"), []byte("a b"), []byte("\"\\\n\r\t\a\b\x00\xff")}
	got := string(MonitorLine(nil, 1_339_518_083_007_412, cl, Lookup(args[0]), args))
	if want := `+1339518083.007412 [0 127.0.0.1:5000] "SET" "a b" "\"\\\n\r\t\a\b\x00\xff"` + "\r\n"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	args = [][]byte{[]byte("AUTH"), []byte("secret")}
	if got := string(MonitorLine(nil, 0, cl, Lookup(args[0]), args)); strings.Contains(got, "secret") {
		t.Error(got)
	}
}
