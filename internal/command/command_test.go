package command

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"whale/internal/resp"
)

// TestCommands holds what every command does without a Redis beside it. Commands on a line, their replies below, each
// reply in the notation of RESP with blanks for line ends.
func TestCommands(t *testing.T) {
	for _, c := range []struct{ session, want string }{
		{"GET a;SET a 1;GET a", "$-1 +OK $1 1"},
		{"SET a 1 NX;SET a 2 NX;SET a 3 XX;SET b 1 XX;MGET a b", "+OK $-1 +OK $-1 *2 $1 3 $-1"},
		{"SET a 1 GET;SET a 2 GET;SET a 3 NX GET;GET a;SET b 1 NX GET;GET b", "$-1 $1 1 $1 2 $1 2 $-1 $1 1"},
		{"SETNX a 1;SETNX a 2;GETSET a 3;GETSET b 4;MGET a b", ":1 :0 $1 1 $-1 *2 $1 3 $1 4"},
		{"MSET a 1 b 2 a 3;MGET a x b;MSET a", "+OK *3 $1 3 $-1 $1 2 -ERR wrong number of arguments for 'mset' command"},
		{"APPEND a x;APPEND a yz;APPEND a '';GET a;STRLEN a;STRLEN b;APPEND e '';EXISTS e", ":1 :3 :3 $3 xyz :3 :0 :0 :1"},
		{"INCR a;DECR a;DECRBY a 5;INCRBY a 15;GET a;SET a x;INCR a;GET a", ":1 :0 :-5 :10 $2 10 +OK -ERR value is not an integer or out of range $1 x"},
		{"SET a 9223372036854775807;INCR a;GET a;DECRBY a -9223372036854775808",
			"+OK -ERR increment or decrement would overflow $19 9223372036854775807 -ERR decrement would overflow"},
		{"MSET a 1 b 2;EXISTS a a x;DEL a a x;UNLINK b;DBSIZE;SET c 1;DBSIZE;FLUSHALL;DBSIZE;FLUSHDB ASYNC;FLUSHALL now",
			"+OK :2 :1 :1 :0 +OK :1 +OK :0 +OK -ERR syntax error"},
		{"PING;PING a;ECHO b;SELECT 0;SELECT 1;AUTH x;QUIT",
			"+PONG $1 a $1 b +OK -ERR DB index is out of range -ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct? +OK"},
		{"ROLE;WAIT 0 0;WAIT 0 -1", "*3 $6 master :0 *0 :0 -ERR timeout is negative"},

		{"SET a 1 EX 10;TTL a;SET a 2 KEEPTTL;PTTL a;EXPIRETIME a;EXPIRE a 20 LT;PEXPIRE a 30000 GT;TTL a;PERSIST a;TTL a;TTL b;EXPIRE a -1;GET a",
			"+OK :10 +OK :10000 :1700000010 :0 :1 :30 :1 :-1 :-2 :1 $-1"},
		{"SETEX a 9 x;GETEX a;TTL a;GETEX a EX 8;TTL a;RENAME a b;TTL b;COPY b c;TTL c;GETSET c y;TTL c;GETDEL c;TYPE c;TYPE b",
			"+OK $1 x :9 $1 x :8 +OK :8 :1 :8 $1 x :-1 $1 y +none +string"},
		{"SETRANGE a 2 xy;GETRANGE a 1 2;INCRBYFLOAT f 0.1;INCRBYFLOAT f 0.2;MSETNX f 1 g 1;EXISTS g", ":4 $2 \x00x $3 0.1 $3 0.3 :0 :0"},
		{"MSET a1 1 a2 2 b1 3;KEYS a*;SCAN 0 COUNT 2;SCAN 2;SCAN 0 MATCH b* COUNT 100;SCAN 0 TYPE list COUNT 9",
			"+OK *2 $2 a1 $2 a2 *2 $1 2 *2 $2 a1 $2 a2 *2 $1 0 *1 $2 b1 *2 $1 0 *1 $2 b1 *2 $1 0 *0"},

		// What differs from Redis 7.0.
		{"OBJECT IDLETIME a;SET a 1;OBJECT IDLETIME a", "$-1 +OK -ERR idle time is not tracked: reads leave no trace on this server"},
		{"CLIENT SETINFO LIB-NAME lib(1,go);CLIENT SETINFO lib-ver 1.2;CLIENT SETINFO LIB-VER 'a b';CLIENT SETINFO foo x",
			"+OK +OK -ERR lib-ver cannot contain spaces, newlines or special characters. -ERR Unrecognized option 'foo'"},
		{"CLIENT NO-TOUCH ON;CLIENT NO-TOUCH maybe;CLIENT CAPA redirect", "+OK -ERR syntax error +OK"},
		{"CLIENT TRACKING ON OPTIN;CLIENT MAINT_NOTIFICATIONS ON",
			"-ERR CLIENT TRACKING ON is not supported: this server sends no invalidations; switch the client-side cache of the client library off " +
				"-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP."},
		{"CONFIG SET maxclients 10000;CONFIG SET maxclients 5;CONFIG SET Port 7001 slowlog-max-len 9;CONFIG GET *-len port;CONFIG SET slowlog-max-len 5 port 1;CONFIG GET slowlog-max-len",
			"+OK -ERR CONFIG SET failed (possibly related to argument 'maxclients') - can't set immutable config +OK *4 $4 port $4 7001 $15 slowlog-max-len $1 9 " +
				"-ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config *2 $15 slowlog-max-len $1 9"},
		{"MEMORY USAGE a;SET a 12345678;MEMORY USAGE a;SET a 123456789012345;MEMORY USAGE a SAMPLES 0", "$-1 +OK :80 +OK :80"},
		{"DEBUG SLEEP 0;ACL SETUSER x;CONFIG REWRITE;TIME", "-ERR DEBUG command not allowed. If the enable-debug-command option is set to \"yes\" in the configuration, and the node is started again, it is. " +
			"-ERR unknown subcommand 'SETUSER'. Try ACL HELP. -ERR The server is running without a config file *2 $10 1700000000 $1 0"},
	} {
		n := newNode(t)
		got := strings.ReplaceAll(strings.TrimSuffix(n.send([]byte(strings.ReplaceAll(c.session, ";", "\r\n")+"\r\n")), "\r\n"), "\r\n", " ")
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.session, got, c.want)
		}
	}
}

func TestHello(t *testing.T) {
	n := newNode(t)
	got := n.do("hello", "3", "auth", "default", "any", "setname", "me")
	want := "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:3\r\n" +
		"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
	if got != want || n.client.Proto != 3 || n.ctx.W.Proto != 3 || n.client.Name() != "me" {
		t.Errorf("got %q, client speaks %d, writer %d, name %q", got, n.client.Proto, n.ctx.W.Proto, n.client.Name())
	}
	if got := n.do("GET", "a"); got != "_\r\n" {
		t.Errorf("version 3 has a null of its own, got %q", got)
	}
	n.do("HELLO", "2")
	if got := n.do("GET", "a"); got != "$-1\r\n" || n.client.Proto != 2 {
		t.Errorf("back at version 2: %q", got)
	}
	for _, wrong := range [][]string{{"HELLO", "4"}, {"HELLO", "3", "AUTH", "who", "x"}, {"HELLO", "3", "what"}} {
		if got := n.do(wrong...); got[0] != '-' || n.client.Proto != 2 || n.ctx.W.Proto != 2 {
			t.Errorf("%q: %q, client speaks %d", wrong, got, n.client.Proto)
		}
	}
}

func TestQuitClosesTheConnection(t *testing.T) {
	n := newNode(t)
	if n.do("PING"); n.client.Quit {
		t.Error("PING closes the connection")
	}
	if got := n.do("QUIT", "please"); got != "+OK\r\n" || !n.client.Quit {
		t.Errorf("%q, connection is to be closed: %v", got, n.client.Quit)
	}
}

func TestClientInfoAndList(t *testing.T) {
	n := newNode(t)
	n.now += 2500
	n.others = []*Client{{ID: 9, Addr: "127.0.0.1:6000", LAddr: "127.0.0.1:7001", Created: n.now - 1000}}
	n.do("CLIENT", "SETNAME", "me")
	n.do("CLIENT", "SETINFO", "LIB-NAME", "lib")
	n.do("CLIENT", "SETINFO", "LIB-VER", "1.2")
	me := "id=3 addr=127.0.0.1:5000 laddr=127.0.0.1:7001 name=me age=7 idle=0 flags=N db=0 cmd=client|SUB user=default resp=2 lib-name=lib lib-ver=1.2\n"
	other := "id=9 addr=127.0.0.1:6000 laddr=127.0.0.1:7001 name= age=1 idle=1 flags=N db=0 cmd=NULL user=default resp=2 lib-name= lib-ver=\n"
	for _, c := range []struct{ command, want string }{
		{"CLIENT INFO", me}, {"CLIENT LIST", me + other}, {"CLIENT LIST ID 9 77", other}, {"CLIENT LIST TYPE normal", me + other}, {"CLIENT LIST TYPE pubsub", ""},
	} {
		sub := strings.ToLower(strings.Fields(c.command)[1])
		c.want = strings.ReplaceAll(c.want, "SUB", sub)
		if got := text(t, n.do(strings.Fields(c.command)...)); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.command, got, c.want)
		}
	}
}

// text is the string that a reply holds.
func text(t *testing.T, reply string) string {
	r, n, err := resp.ParseReply([]byte(reply))
	if err != nil || n != len(reply) || r.Err() != nil {
		t.Fatalf("%q: %v", reply, err)
	}
	return string(r.Str)
}

func TestInfoSections(t *testing.T) {
	section := func(names ...string) (want string) {
		for i, s := range names {
			if i > 0 {
				want += "\r\n"
			}
			want += "# " + strings.ToUpper(s[:1]) + s[1:] + "\r\nname_of_section:" + s + "\r\n"
		}
		return want
	}
	everything := section(Sections...)
	for _, c := range []struct{ command, want string }{
		{"INFO", everything}, {"INFO all", everything}, {"INFO Everything", everything}, {"INFO default", everything},
		{"INFO server", section("server")}, {"INFO KEYSPACE nosuch Server", section("server", "keyspace")}, {"INFO nosuch", ""},
	} {
		if got := text(t, newNode(t).do(strings.Fields(c.command)...)); got != c.want {
			t.Errorf("%s: %q, want %q", c.command, got, c.want)
		}
	}
	n := newNode(t)
	n.do("HELLO", "3")
	if got := n.do("INFO", "cpu"); !strings.HasPrefix(got, "=32\r\ntxt:# Cpu\r\n") {
		t.Errorf("version 3: %q", got)
	}
}

// TestTable: what every entry must have, and what depends on its place.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	var check func(cmd *Command)
	check = func(cmd *Command) {
		if seen[cmd.Name] || cmd.Name != strings.ToLower(cmd.Name) || cmd.Arity == 0 || cmd.Run == nil || cmd.Summary == "" || cmd.Since == "" || cmd.Group == "" || cmd.Complexity == "" || len(cmd.Categories) == 0 {
			t.Errorf("%s is twice there or incomplete", cmd.Name)
		}
		seen[cmd.Name] = true
		if leaf := len(cmd.Sub) == 0; leaf && slices.Contains(cmd.Flags, "write") != (cmd.Place == Write) && cmd.Name != "function|flush" ||
			leaf && slices.Contains(cmd.Flags, "readonly") != (cmd.Place == Read || cmd.Place == Primary) {
			t.Errorf("%s: flags %v do not suit place %d", cmd.Name, cmd.Flags, cmd.Place)
		}
		if hasKeys := cmd.FirstKey != 0; hasKeys != (cmd.LastKey != 0) || hasKeys != (cmd.Step != 0) || hasKeys != (cmd.KeyFlags != nil) {
			t.Errorf("%s: where are its keys?", cmd.Name)
		}
		for _, s := range cmd.Sub {
			if !strings.HasPrefix(s.Name, cmd.Name+"|") || s.Place != cmd.Place && s.Place != Here && cmd.Place != Here {
				t.Errorf("%s is no subcommand of %s", s.Name, cmd.Name)
			}
			check(s)
		}
	}
	for _, cmd := range All() {
		check(cmd)
	}
}

func TestLookup(t *testing.T) {
	for _, cmd := range All() {
		for _, name := range []string{cmd.Name, strings.ToUpper(cmd.Name), strings.ToUpper(cmd.Name[:1]) + cmd.Name[1:]} {
			if got := Lookup([]byte(name)); got != cmd {
				t.Errorf("%q is not found", name)
			}
		}
		for i := range cmd.Name {
			other := []byte(cmd.Name)
			other[i] ^= 0x20 // the other case of a letter
			if got := Lookup(other); got != cmd {
				t.Errorf("%q is not found", other)
			}
			for _, bit := range []byte{1, 0x40, 0x80} {
				other[i] = cmd.Name[i] ^ bit
				if got := Lookup(other); got != nil && got.Name != strings.ToLower(string(other)) {
					t.Errorf("%q is taken for %s", other, got.Name)
				}
			}
		}
	}
	for _, name := range []string{"", "g", "gett", "client|id", "flushal", "flushalll", "\x00", strings.Repeat("x", 1000), "[et", "gE\x54\x00"} {
		if got := Lookup([]byte(name)); got != nil {
			t.Errorf("%q is taken for %s", name, got.Name)
		}
	}
}

// TestCommandsLeaveNothingBehindOnErrors: an error comes before the first write, so that nothing has to be undone.
func TestCommandsLeaveNothingBehindOnErrors(t *testing.T) {
	for _, command := range []string{"MSET a 9 b", "SET a 9 NX XX", "SET a 9 EX 0", "INCR a", "INCRBY a 9x", "FLUSHALL please", "DECRBY a -9223372036854775808"} {
		n := newNode(t)
		n.do("SET", "a", "text")
		if got := n.do(strings.Fields(command)...); got[0] != '-' {
			t.Errorf("%s: %q is no error", command, got)
		}
		if n.tx.wrote != 0 {
			t.Errorf("%s wrote before its error", command)
		}
	}
}

// TestUnchangedIsNotWritten: a write that changes nothing costs no record.
func TestUnchangedIsNotWritten(t *testing.T) {
	for _, command := range []string{"SET a x NX", "SETNX a x", "SET b x XX", "APPEND a ", "DEL b"} {
		n := newNode(t)
		n.do("SET", "a", "text")
		if n.do(strings.Split(command, " ")...); n.tx.wrote != 0 {
			t.Errorf("%s wrote", command)
		}
	}
}

func TestWaitIsHandedOn(t *testing.T) {
	c := Ctx{W: &resp.Writer{}, Args: [][]byte{[]byte("WAIT"), []byte("2"), []byte("1500")}}
	Lookup(c.Args[0]).Run(&c)
	if want := (Wait{Asked: true, Replicas: 2, Timeout: 1500}); c.Wait != want || len(c.W.Buf) != 0 {
		t.Errorf("%+v, reply %q", c.Wait, c.W.Buf)
	}
	if c.Reset(); c.Wait.Asked {
		t.Error("the next command would wait, too")
	}
}

// TestScratch: pieces do not overlap, and stay until Reset.
func TestScratch(t *testing.T) {
	var c Ctx
	for range 3 {
		var pieces [][]byte
		for i := range 200 {
			p := c.Scratch(i * 7)
			for j := range p {
				p[j] = byte(i)
			}
			if cap(p) != len(p) {
				t.Fatal("an append would run into the next piece")
			}
			pieces = append(pieces, p)
		}
		for i, p := range pieces {
			if !bytes.Equal(p, bytes.Repeat([]byte{byte(i)}, i*7)) {
				t.Fatalf("piece %d was overwritten", i)
			}
		}
		c.Reset()
	}
	first := &c.Scratch(8)[0]
	if c.Reset(); first != &c.Scratch(8)[0] {
		t.Error("memory is not used again")
	}
	c.Scratch(10 << 20)
	if c.Reset(); cap(c.scratch) > keptScratch {
		t.Errorf("%d bytes are kept for ever", cap(c.scratch))
	}
}

func TestKeys(t *testing.T) {
	for command, want := range map[string]string{"GET a": `["a"]`, "MSET a 1 b 2": `["a" "b"]`, "DEL a b c": `["a" "b" "c"]`, "PING a": "[]", "SET a 1 NX": `["a"]`} {
		var args [][]byte
		for _, a := range strings.Fields(command) {
			args = append(args, []byte(a))
		}
		if got := fmt.Sprintf("%q", Lookup(args[0]).Keys(args)); got != want {
			t.Errorf("%s: %s, want %s", command, got, want)
		}
	}
}

func TestMatchFold(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"**", "abc", true}, {"a*c", "abbbc", true}, {"*aab", "aaab", true}, {"a*c", "abbbd", false}, {"*b*", "abc", true},
		{"?", "", false}, {"??", "ab", true}, {"A", "a", true}, {"[a-c]x", "bx", true}, {"[^a-c]x", "bx", false}, {"[^a]", "b", true}, {"[c-a]", "b", true},
		{"\\*", "*", true}, {"\\*", "x", false}, {"[\\]]", "]", true}, {"[", "[", false}, {"[a", "a", true}, {"a[", "a", false}, {"\\", "\\", true}, {"a*\\", "ab", false},
		{strings.Repeat("a*", 50) + "b", strings.Repeat("a", 100), false},
	} {
		if got := matchFold(c.pattern, c.name); got != c.want {
			t.Errorf("matchFold(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func FuzzMatchFold(f *testing.F) {
	for _, p := range []string{"*", "a?[b-c]\\", "[^", "[a-", "[\\", "***[]"} {
		f.Add(p, "abc")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) { matchFold(pattern, name) })
}

// FuzzCommands: no input makes a command panic, and each gets exactly one reply (which send checks).
func FuzzCommands(f *testing.F) {
	for _, s := range []string{"SET a 1 NX GET\r\n", "COMMAND GETKEYS MSET a\r\n", "COMMAND LIST FILTERBY ACLCAT read\r\n", "CLIENT LIST ID 1 2\r\n", "HELLO 3 AUTH a b SETNAME c\r\n",
		"WAIT 1 1\r\nINCRBY a 5\r\nAPPEND a b\r\n", "COMMAND\r\nCOMMAND DOCS\r\nCOMMAND HELP\r\nCLIENT HELP\r\n", "COMMAND GETKEYS CLIENT\r\n", "COMMAND INFO |\r\n", "COMMAND INFO client| command|info|x\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		n := newNode(t)
		n.partial = true
		n.send(append(stream, "\r\n"...))
	})
}

// discard is a store of one value that allocates nothing.
type discard struct{ value []byte }

func (d *discard) Get([]byte) ([]byte, bool)         { return d.value, true }
func (d *discard) Deadline([]byte) (int64, bool)     { return 0, true }
func (d *discard) Set(_, value []byte)               {}
func (d *discard) SetUntil(_, value []byte, _ int64) {}
func (d *discard) Del([]byte) bool                   { return true }
func (d *discard) FlushAll()                         {}
func (d *discard) Len() int                          { return 1 }
func (d *discard) Scan(uint64, func([]byte)) uint64  { return 0 }
func (d *discard) Stamp() uint64                     { return 1 }

func TestCommandsDoNotAllocate(t *testing.T) {
	for _, line := range []string{"GET a", "SET a b", "SET a b NX GET", "SETNX a b", "MGET a b c", "MSET a 1 b 2", "APPEND a xyz", "STRLEN a", "INCR a", "INCRBY a 100", "DECRBY a 7",
		"EXISTS a b", "DEL a b", "DBSIZE", "FLUSHALL", "GETRANGE a 0 1", "SETRANGE a 1 b", "GETDEL a", "GETEX a PERSIST", "EXPIRETIME a", "PERSIST a", "RENAME a b", "TYPE a", "PING", "ECHO a", "SELECT 0", "WAIT 0 0"} {
		var args [][]byte
		for _, a := range strings.Fields(line) {
			args = append(args, []byte(a))
		}
		c := Ctx{Args: args, Tx: &discard{[]byte("123456")}, W: &resp.Writer{Buf: make([]byte, 0, 4096)}}
		if allocs := testing.AllocsPerRun(100, func() {
			c.W.Buf = c.W.Buf[:0]
			cmd := Lookup(args[0])
			if text := Check(cmd, args); text != "" {
				t.Fatal(text)
			}
			cmd.Run(&c)
			c.Reset()
		}); allocs != 0 {
			t.Errorf("%s: %v allocations", line, allocs)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, name := range []string{"GET", "flushall", "nosuch"} {
		b.Run(name, func(b *testing.B) {
			n := []byte(name)
			for b.Loop() {
				Lookup(n)
			}
		})
	}
}

func BenchmarkRunSet64(b *testing.B) {
	args := [][]byte{[]byte("SET"), []byte("key:0000000000123"), make([]byte, 64)}
	c := Ctx{Args: args, Tx: &discard{}, W: &resp.Writer{Buf: make([]byte, 0, 4096)}}
	b.ReportAllocs()
	for b.Loop() {
		c.W.Buf = c.W.Buf[:0]
		cmd := Lookup(args[0])
		if Check(cmd, args) != "" {
			b.Fatal("refused")
		}
		cmd.Run(&c)
		c.Reset()
	}
}
