package command

import (
	"bytes"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"whale/internal/resp"
)

// redis is a connection to a real redis-server that lives as long as the test.
type redis struct {
	t       testing.TB
	socket  string
	conn    net.Conn
	replies *resp.ReplyReader
}

func startRedis(t testing.TB) *redis {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("no redis-server on the PATH to compare with: install Redis " + RedisVersion)
	}
	if out, err := exec.Command(binary, "--version").Output(); err != nil || !strings.Contains(string(out), "v="+RedisVersion+" ") {
		t.Skipf("redis-server is not version %s, whose behaviour is followed: %s", RedisVersion, out)
	}
	dir := t.TempDir()
	r := &redis{t: t, socket: filepath.Join(dir, "s")}
	server := exec.Command(binary, "--port", "0", "--unixsocket", r.socket, "--save", "", "--dir", dir, "--databases", "1")
	var log bytes.Buffer
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { server.Wait(); close(exited) }()
	t.Cleanup(func() { server.Process.Kill(); <-exited })
	for deadline := time.Now().Add(10 * time.Second); ; {
		if conn, err := net.Dial("unix", r.socket); err == nil {
			conn.Close()
			break
		}
		select {
		case <-exited:
			t.Fatalf("redis-server ended: %s", &log)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("redis-server does not listen")
		}
	}
	r.connect()
	return r
}

func (r *redis) connect() {
	if r.conn != nil {
		r.conn.Close()
	}
	var err error
	if r.conn, err = net.Dial("unix", r.socket); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.conn.Close() })
	r.conn.SetDeadline(time.Now().Add(time.Minute))
	r.replies = resp.NewReplyReader(r.conn)
}

// send returns the bytes of n replies to what was sent.
func (r *redis) send(stream []byte, n int) string {
	if _, err := r.conn.Write(stream); err != nil {
		r.t.Fatal(err)
	}
	var got strings.Builder
	for range n {
		raw, err := r.replies.NextRaw()
		if err != nil {
			r.t.Fatalf("after %q, reply %q: %v", stream, got.String(), err)
		}
		got.Write(raw)
	}
	return got.String()
}

func countReplies(t testing.TB, stream string) (n int) {
	for len(stream) > 0 {
		size, err := resp.SkipReply([]byte(stream))
		if err != nil || size == 0 {
			t.Fatalf("%q: %d, %v", stream, size, err)
		}
		stream = stream[size:]
		n++
	}
	return n
}

// same sends the bytes to both and compares the replies.
func same(t *testing.T, ours *node, real *redis, stream []byte) {
	t.Helper()
	got := ours.send(stream)
	if want := real.send(stream, countReplies(t, got)); got != want {
		t.Errorf("%q:\nours  %q\nRedis %q", stream, got, want)
	}
}

// TestSameAsRedis: each line is a session of its own kind of corner cases; both protocols.
func TestSameAsRedis(t *testing.T) {
	real := startRedis(t)
	for _, proto := range []string{"2", "3"} {
		for _, session := range []string{
			// SET and its options
			"SET k v;GET k;SET k w NX;SET k w XX;SET n v XX;SET n v NX;GET n;SET n w NX GET;GET n;SET n w XX GET;GET n;SET m v NX GET;GET m;SET q v XX GET;GET q",
			"SET k v nx xx;SET k v xx nx;SET k v foo;SET k v GET GET;SET k v NX NX;SET k v EX;SET k v PX;SET k v EXAT;SET k v EX 10 PX 10;SET k v KEEPTTL EX 10;SET k v EX 10 KEEPTTL;SET k v PERSIST;SET k v EX 10 EX 20;SET k v EX 0;SET k v EX -1;SET k v EX x;SET k v PX 9223372036854775807;SET k v EX 9223372036854775807;SET k v EX 9223372036854775;SET k v EX 10 NX;SET k v EXAT 0 XX;SET k v NX GET x;SET k",
			// keys and values of any bytes
			`SET "" "";GET "";STRLEN "";SET "\x00\r\n" "\xff\x00";GET "\x00\r\n";EXISTS "" "" x`,
			// integers
			"INCR n;INCR n;GET n;DECR n;INCRBY n 10;DECRBY n 20;INCRBY n x;INCRBY n;INCR n n;INCRBY n 01;INCRBY n +1;INCRBY n -0;INCRBY n '';INCRBY n ' 1';INCRBY n 1.5;GET n",
			"SET n 9223372036854775807;INCR n;DECR n;INCRBY n 1;INCRBY n 1;DECRBY n -9223372036854775808;DECRBY n -1;SET n -9223372036854775808;DECR n;INCRBY n -1;INCRBY n 9223372036854775807;GET n;INCRBY n 9223372036854775808",
			"SET n -1;DECRBY n 9223372036854775807;GET n;DECR n;INCRBY n -9223372036854775808",
			`SET n 01;INCR n;SET n ' 1';INCR n;SET n '1 ';INCR n;SET n +1;INCR n;SET n -0;INCR n;SET n '';INCR n;SET n '1\x00';INCR n;SET n "\x00";INCR n;SET n 10;APPEND n 5;INCR n;SET n 00000000000000000001;INCR n;SET n -;INCR n;INCRBY n 1`,
			// strings
			"APPEND a x;APPEND a yz;GET a;APPEND a '';GET a;APPEND e '';EXISTS e;GET e;STRLEN a;STRLEN none;APPEND a;STRLEN",
			"SETNX s 1;SETNX s 2;GET s;GETSET s 3;GET s;GETSET t 1;GET t;GETSET t;SETNX t",
			"MSET a 1 b 2 a 3;MGET a b c a;MSET a;MSET a 1 b;MSET;MGET;MSET a 1 '' 2;MGET ''",
			// keys
			"MSET a 1 b 2 c 3;EXISTS a b a x;DEL a a x;EXISTS a;UNLINK b c c;DBSIZE;DEL;EXISTS;UNLINK;DBSIZE x",
			"MSET a 1 b 2;DBSIZE;FLUSHALL;DBSIZE;GET a;SET a 1;FLUSHDB;DBSIZE;FLUSHALL ASYNC;FLUSHALL sync;FLUSHALL foo;FLUSHALL sync async;FLUSHDB async;FLUSHDB foo;FLUSHALL",
			// expiry
			"SETEX k 100 v;GET k;TTL k;PTTL nokey;TTL nokey;SET k w;TTL k;SETEX k 0 v;SETEX k -1 v;SETEX k x v;SETEX k 10;PSETEX k 0 v;PSETEX k 100000 v;TTL k;SETEX k 9223372036854775807 v;PSETEX k 9223372036854775807 v;setex k 0 v",
			"SET k v;EXPIRE k 100;TTL k;EXPIRE k 200 NX;EXPIRE k 200 GT;TTL k;EXPIRE k 300 LT;TTL k;EXPIRE k 50 LT;TTL k;EXPIRE k 50 XX;PERSIST k;PERSIST k;TTL k;EXPIRE k 50 XX;EXPIRE k 50 GT;EXPIRE k 60 LT;TTL k;PERSIST none;EXPIRE none 5;EXPIRE none x;EXPIRE k 5 FOO;EXPIRE k x FOO;EXPIRE k x NX XX;EXPIRE k 5 NX GT;EXPIRE k 5 GT LT;EXPIRE k 5 NX XX GT;EXPIRE k 100 XX GT;TTL k",
			"SET k v;EXPIREAT k 4102444800;EXPIRETIME k;PEXPIRETIME k;PEXPIREAT k 4102444800499;EXPIRETIME k;PEXPIREAT k 4102444800500 xx;EXPIRETIME k;PEXPIRETIME k;EXPIRETIME none;PEXPIRETIME none;PERSIST k;EXPIRETIME k;PEXPIRETIME k;EXPIREAT k 1;EXISTS k;EXPIREAT k x;SET k v;PEXPIRE k -1;GET k;SET k v;EXPIRE k 0;DBSIZE",
			"SET k v;EXPIRE k 9223372036854775807;EXPIRE k -9223372036854775808;EXPIRE k 9223372036854775;PEXPIRE k 9223372036854775807;EXPIREAT k 9223372036854775807;EXPIREAT k 9223372036854775;PEXPIREAT k 9223372036854775807;PEXPIRETIME k;PEXPIRE k 9223370000000000000;PEXPIREAT k -9223372036854775808;EXISTS k;EXPIRE k;EXPIRE;TTL;TTL a b;PERSIST",
			"SET n 1 EX 100;INCR n;TTL n;APPEND n 5;TTL n;SETRANGE n 0 9;TTL n;INCRBYFLOAT n 1.5;TTL n;GETSET n 1;TTL n;SET n 1 EX 100;SET n 2 KEEPTTL;TTL n;SET n 3;TTL n;SET new 1 KEEPTTL;TTL new;SET n 1 EX 100;MSET n 2;TTL n;SET n 1 EX 100;SET n 2 XX GET;TTL n;SET n 1 EX 100 GET;TTL n",
			"SET a 1 EX 100;RENAME a b;TTL b;TTL a;COPY b c;TTL c;SET d 1;COPY d c REPLACE;TTL c;RENAME b d;TTL d;SET e 1;RENAME e d;TTL d",
			"SET k v;GETEX k;TTL k;GETEX k EX 100;TTL k;GETEX k;TTL k;GETEX k PERSIST;TTL k;GETEX k PX 100000;TTL k;GETEX k EXAT 4102444800;EXPIRETIME k;GETEX k PXAT 4102444800001;PEXPIRETIME k;GETEX k EX 0;GETEX k EX x;GETEX k FOO;GETEX k EX;GETEX k EX 10 PERSIST;GETEX k PERSIST EX 10;GETEX k KEEPTTL;GETEX k NX;GETEX none EX x;GETEX none;GETEX k PXAT 1;EXISTS k;GETEX;GETEX k EX 10 PX 10;GETEX k PERSIST PERSIST;GETEX k EX 10 EX 20",
			"SET k v;GETDEL k;GETDEL k;GETDEL;MSETNX a 1 b 2;MSETNX b 3 c 4;MGET a b c;MSETNX a;MSETNX a 1 b;MSETNX d 1 d 2;GET d",
			// parts of strings
			"SET k 'Hello World';GETRANGE k 0 4;GETRANGE k -5 -1;GETRANGE k 0 -1;GETRANGE k 5 3;GETRANGE k -1 -5;GETRANGE k -100 2;GETRANGE k 3 100;GETRANGE k 100 200;GETRANGE none 0 -1;GETRANGE k x 1;GETRANGE k 0 y;GETRANGE k 0;SUBSTR k 0 4;GETRANGE k 9223372036854775807 -9223372036854775808;GETRANGE k -9223372036854775808 9223372036854775807;GETRANGE k 0 0;GETRANGE k -20 -15;SET e '';GETRANGE e 0 -1;GETRANGE e 0 0",
			"SETRANGE k 0 abc;GET k;SETRANGE k 5 x;GET k;SETRANGE k 1 YY;GET k;SETRANGE k 0 '';SETRANGE none 5 '';EXISTS none;SETRANGE k -1 x;SETRANGE k x y;SETRANGE k 9223372036854775807 x;SETRANGE k 536870912 x;SETRANGE k 0;STRLEN k",
			"SET f 3;INCRBYFLOAT f 1.5;INCRBYFLOAT f -0.5;INCRBYFLOAT f 1e3;INCRBYFLOAT f x;INCRBYFLOAT f '';INCRBYFLOAT f ' 1';INCRBYFLOAT f '1 ';INCRBYFLOAT f inf;INCRBYFLOAT f -inf;INCRBYFLOAT f nan;INCRBYFLOAT f 1e5000;GET f;SET f x;INCRBYFLOAT f 1;INCRBYFLOAT new 0.1;INCRBYFLOAT new 0.2;INCRBYFLOAT new 1e-17;INCRBYFLOAT new 123456789012345678;INCRBYFLOAT new -123456789012345678.3;INCRBYFLOAT z -0.0;INCRBYFLOAT z -1e-30;INCRBYFLOAT z 1e-30;SET z 1e400;INCRBYFLOAT z 1;INCRBYFLOAT z .5;INCRBYFLOAT z 5.;INCRBYFLOAT z .;INCRBYFLOAT z 1e;INCRBYFLOAT z +1;INCRBYFLOAT z --1;INCRBYFLOAT z 1_0;INCRBYFLOAT z Infinity;INCRBYFLOAT z +inf;SET z inf;INCRBYFLOAT z 1;INCRBYFLOAT f",
			"MSET a ohmytext b mynewtext;LCS a b;LCS a b LEN;LCS a b IDX;LCS a b IDX WITHMATCHLEN;LCS a b IDX MINMATCHLEN 4;LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN;LCS a b IDX LEN;LCS a b FOO;LCS a b MINMATCHLEN;LCS a b MINMATCHLEN x;LCS a none;LCS none none2 IDX;LCS a;MSET a abcabcabc b acbcabbca;LCS a b IDX WITHMATCHLEN;LCS b a IDX;LCS a a IDX;LCS a b IDX MINMATCHLEN -1",
			// transactions
			"MULTI;SET a 1;INCR a;GET a;PING;EXEC;EXEC;DISCARD;MULTI;SET a 9;DISCARD;GET a;MULTI;MULTI;WATCH a;GET a;EXEC;MULTI;EXEC;MULTI x;EXEC x;DISCARD x;WATCH;UNWATCH;UNWATCH x",
			"MULTI;SET a 1;NOSUCH x;SET b 1;EXEC;MGET a b;MULTI;GET;EXEC;EXEC;MULTI;NOSUCH;DISCARD;MULTI;PING;EXEC;MULTI;SET a x;INCR a;GET a;INCR b;EXEC;MGET a b",
			"WATCH a;MULTI;PING;EXEC;WATCH a;SET a 1;MULTI;PING;EXEC;GET a;WATCH a;SET a 2;UNWATCH;MULTI;PING;EXEC;WATCH a b;DEL b;MULTI;GET a;EXEC;WATCH a;DEL a;MULTI;PING;EXEC;WATCH a;FLUSHALL;MULTI;PING;EXEC;SET a 1;WATCH a;FLUSHALL;MULTI;PING;EXEC;WATCH a;MULTI;SET a 1;EXEC;MULTI;GET a;EXEC",
			"SET a 1;WATCH a;SET a 2;MULTI;DISCARD;MULTI;PING;EXEC;WATCH a;EXPIRE a 1000;MULTI;PING;EXEC;WATCH a;GET a;TTL none;MULTI;GET a;EXEC;WATCH a;APPEND a y;MULTI;UNWATCH;PING;EXEC;WATCH a;SET a 3 NX;MULTI;GET a;EXEC",
			"MULTI;ECHO x;SET a 1;CLIENT SETNAME me;CLIENT GETNAME;GET a;SELECT 0;SELECT 9;DBSIZE;KEYS *;EXISTS a b;TYPE a;EXEC;CLIENT GETNAME;MULTI;WAIT 0 0;WAIT x 0;SET a 1 EX 100;TTL a;EXEC;MULTI;GET a;MULTI;MULTI;EXEC;MULTI;CLIENT ID x;EXEC;MULTI;CLIENT;EXEC;MULTI;PING;RESET;EXEC",
			"MULTI;MSET a 1 b 2 c 3;RENAME a d;COPY d e;GETDEL b;MGET a b c d e;DEL c d;FLUSHALL;SET z 1;DBSIZE;KEYS *;RANDOMKEY;SCAN 0;SETEX y 100 v;TTL y;EXEC;KEYS z",
			// names
			"SET a 1;TYPE a;TYPE none;TYPE;RENAME a b;RENAME a b;RENAME b b;RENAME none none;GET b;SET c 2;RENAMENX b c;RENAMENX b d;RENAMENX d d;RENAMENX none x;RENAMENX none none;MGET a b c d;RENAME d",
			"SET a 1;COPY a b;COPY a b;COPY a b REPLACE;COPY a a;COPY none x;COPY a c DB 0;COPY a d DB 1;COPY a d DB x;COPY a d FOO;COPY a d DB;COPY a c DB 0 REPLACE;COPY none none;COPY a;TOUCH a b none a;TOUCH",
			"SET i 12345678;SET s short;SET l 0123456789012345678901234567890123456789012345;OBJECT ENCODING i;OBJECT ENCODING s;OBJECT ENCODING l;OBJECT ENCODING none;OBJECT REFCOUNT l;OBJECT REFCOUNT none;OBJECT FREQ i;OBJECT FREQ none;OBJECT IDLETIME none;OBJECT;OBJECT FOO;OBJECT FOO x;OBJECT ENCODING;OBJECT ENCODING a b;object encoding s",
			"RANDOMKEY;SET only 1;RANDOMKEY;RANDOMKEY x;KEYS *;KEYS x*;KEYS;KEYS o?l[a-z];KEYS ONLY;KEYS *;KEYS o\\nly;KEYS a b;FLUSHALL;KEYS *;RANDOMKEY",
			"SET a 1;SCAN 0;SCAN 0 MATCH a;SCAN 0 MATCH b;SCAN 0 COUNT 10;SCAN 0 COUNT 0;SCAN 0 COUNT -1;SCAN 0 COUNT x;SCAN x;SCAN 0 FOO;SCAN 0 MATCH;SCAN 0 TYPE string;SCAN 0 TYPE list;SCAN 0 type STRING match * count 100;SCAN;SCAN ' 0';SCAN 0x;SCAN 99999999999999999999999",
			// connection
			"PING;PING a;PING a b;ECHO a;ECHO;ECHO a b;ping;PiNg '';SELECT 0;SELECT 1;SELECT -1;SELECT x;SELECT;SELECT 00;SELECT 99999999999999999999;SELECT 4294967296",
			"AUTH x;AUTH default x;AUTH who x;AUTH a b c;AUTH;AUTH DEFAULT x",
			"HELLO;HELLO 2;HELLO 3;HELLO 1;HELLO 4;HELLO x;HELLO 3 foo;HELLO 3 AUTH a;HELLO 3 AUTH who x;HELLO 3 SETNAME;HELLO 3 SETNAME 'a b';HELLO 03;HELLO -3;HELLO 3 AUTH default x foo;HELLO 2 SETNAME ok AUTH who x;CLIENT GETNAME;HELLO 3 AUTH who x SETNAME b;CLIENT GETNAME;HELLO 3 AUTH who x foo;HELLO 3 SETNAME c foo;CLIENT GETNAME;HELLO 3 SETNAME '';PING a;ECHO",
			"CLIENT;CLIENT ID;CLIENT foo;CLIENT foo bar;client FOO;CLIENT ID x;CLIENT SETNAME;CLIENT SETNAME 'a b';CLIENT SETNAME a b;CLIENT GETNAME;CLIENT SETNAME me;CLIENT GETNAME;client getname;CLIENT SETNAME '';CLIENT GETNAME;CLIENT GETNAME x",
			"CLIENT NO-EVICT on;CLIENT NO-EVICT off;CLIENT NO-EVICT x;CLIENT NO-EVICT;CLIENT TRACKING off;CLIENT TRACKING x;CLIENT TRACKING;CLIENT TRACKINGINFO;CLIENT GETREDIR;CLIENT LIST TYPE x;CLIENT LIST TYPE replica;CLIENT LIST foo;CLIENT LIST ID;CLIENT LIST ID x;CLIENT LIST ID 0;CLIENT LIST ID -1;CLIENT LIST ID 999999 x;CLIENT LIST TYPE;CLIENT LIST ID 1 x;CLIENT LIST ID 999999",
			"CLIENT KILL;CLIENT KILL foo;CLIENT KILL 1.2.3.4:5;CLIENT KILL ID x;CLIENT KILL ID 999999;CLIENT KILL TYPE x;CLIENT KILL FOO x;CLIENT KILL ADDR 1;CLIENT KILL ID 5 ADDR;CLIENT KILL SKIPME x ID 7;CLIENT KILL USER foo;CLIENT KILL USER default ID 99999;CLIENT KILL LADDR x;CLIENT KILL ID 0;CLIENT KILL MAXAGE 5;CLIENT KILL SKIPME foo;CLIENT KILL TYPE pubsub SKIPME no;CLIENT KILL TYPE replica ID 3 SKIPME yes",
			"CLIENT PAUSE;CLIENT PAUSE x;CLIENT PAUSE -1;CLIENT PAUSE 0 foo;CLIENT PAUSE 0 WRITE;CLIENT PAUSE 0 all;CLIENT UNPAUSE;CLIENT UNPAUSE x;CLIENT UNBLOCK;CLIENT UNBLOCK x;CLIENT UNBLOCK 99999;CLIENT UNBLOCK 99999 FOO;CLIENT UNBLOCK 99999 ERROR;CLIENT UNBLOCK 1 timeout x;CLIENT REPLY;CLIENT REPLY foo;CLIENT REPLY ON;CLIENT PAUSE 0 all x",
			"RESET;RESET x;CLIENT SETNAME a;HELLO 3;RESET;CLIENT GETNAME;MGET x",
			"CONFIG;CONFIG GET;CONFIG GET foo;CONFIG GET requirepass;CONFIG SET;CONFIG SET foo;CONFIG SET foo 1;CONFIG SET slowlog-max-len -1;CONFIG SET slowlog-log-slower-than x;CONFIG SET slowlog-log-slower-than 10000 slowlog-log-slower-than 5;CONFIG SET latency-monitor-threshold -1;CONFIG REWRITE;CONFIG RESETSTAT;CONFIG RESETSTAT x;CONFIG FOO;CONFIG SET slowlog-max-len 5 foo;CONFIG SET slowlog-max-len 5 foo 1;CONFIG GET slowlog-max-len;CONFIG SET slowlog-max-len 7;CONFIG GET SLOWLOG-max-le[m-n];CONFIG SET SLOWLOG-MAX-LEN 128;CONFIG SET requirepass '';CONFIG GET slowlog-m[a-b]x-len slowlog-max-len;CONFIG SET enable-debug-command yes",
			"ACL;ACL WHOAMI;ACL WHOAMI x;ACL USERS;ACL LIST;ACL CAT;ACL CAT foo;ACL CAT a b;ACL FOO",
			"SLOWLOG;SLOWLOG FOO;SLOWLOG GET x;SLOWLOG GET -2;SLOWLOG RESET;SLOWLOG GET 0;SLOWLOG GET 1 2;SLOWLOG GET -1;SLOWLOG LEN;SLOWLOG LEN x;SLOWLOG RESET x",
			"LATENCY;LATENCY LATEST;LATENCY HISTORY;LATENCY HISTORY foo;LATENCY RESET;LATENCY RESET foo bar;LATENCY HISTOGRAM foo;LATENCY FOO;LATENCY LATEST x",
			"MEMORY;MEMORY USAGE;MEMORY USAGE foo;MEMORY USAGE foo SAMPLES;MEMORY USAGE foo BAR 1;MEMORY USAGE foo SAMPLES x;MEMORY USAGE foo SAMPLES -1;MEMORY FOO;MEMORY PURGE;MEMORY DOCTOR x",
			"DEBUG;TIME x;FUNCTION;FUNCTION FLUSH;FUNCTION FLUSH foo;FUNCTION FLUSH async;FUNCTION FLUSH async x;FUNCTION LIST;FUNCTION LIST foo;FUNCTION LIST WITHCODE LIBRARYNAME x;FUNCTION LIST LIBRARYNAME;FUNCTION FOO",
			"CLUSTER;CLUSTER INFO;CLUSTER FOO;CLUSTER HELP;CLUSTER INFO x;CLUSTER SLOTS;READONLY;READONLY x;READWRITE;ASKING",
			"WAIT 0 1;WAIT x 0;WAIT 0 x;WAIT 0 -1;WAIT 0;WAIT 0 0 0;WAIT -1 5;WAIT x y;WAIT 99999999999999999999 0;WAIT 0 99999999999999999999",
			"ROLE;ROLE x;INFO foo",
			// what is not there
			`FOO;foo bar baz;FOO 'a b' "\x00x" "a\r\nb";"FO\r\nO";"F\x00OO" x;GET;get;GET a b;GeT;"";"" a`,
			"FOO " + strings.Repeat("x", 200) + " y;FOO " + strings.Repeat("abcdefgh ", 30) + ";" + strings.Repeat("F", 200) + " x;CLIENT " + strings.Repeat("z", 200) + ";FOO " + strings.Repeat("x", 125) + " abcdef g;FOO " + strings.Repeat("x", 124) + " abcdef g;FOO " + strings.Repeat("x", 126) + " abcdef g",
			// introspection
			"COMMAND COUNT x;COMMAND foo;COMMAND GETKEYS;COMMAND GETKEYS GET;COMMAND GETKEYS GET a;COMMAND GETKEYS GET a b;COMMAND GETKEYS MSET a 1 b 2;COMMAND GETKEYS MSET a 1 b;COMMAND GETKEYS PING x;COMMAND GETKEYS FOO x;COMMAND GETKEYS DEL a b c;COMMAND GETKEYS SET k v NX;COMMAND GETKEYS CLIENT ID;COMMAND GETKEYS CLIENT foo",
			"COMMAND LIST FILTERBY PATTERN getse[st];COMMAND LIST FILTERBY PATTERN GET;COMMAND LIST FILTERBY PATTERN mge?;COMMAND LIST FILTERBY PATTERN client;COMMAND LIST FILTERBY PATTERN 'client|i[c-e]';COMMAND LIST FILTERBY MODULE x;COMMAND LIST FILTERBY ACLCAT foo;COMMAND LIST FILTERBY foo x;COMMAND LIST foo;COMMAND LIST FILTERBY PATTERN;COMMAND LIST FILTERBY PATTERN *nlin*k;COMMAND LIST FILTERBY PATTERN [^a-tv-z]nlink;COMMAND LIST FILTERBY PATTERN [d-d]e\\l;COMMAND LIST FILTERBY PATTERN [z-a]bsize;COMMAND LIST FILTERBY PATTERN unlin[k",
			"COMMAND INFO get;COMMAND INFO foo;COMMAND INFO GET 'client|id' foo;COMMAND DOCS foo",
			"COMMAND INFO ping echo hello auth quit select info role wait set setnx getset mget mset append strlen incr decr incrby decrby exists del unlink dbsize flushall flushdb",
			"COMMAND INFO reset monitor debug time readonly readwrite asking 'client|kill' 'client|pause' 'client|unpause' 'client|unblock' 'client|reply' 'config|get' 'config|set' 'config|resetstat' 'config|rewrite' 'config|help' 'acl|whoami' 'acl|users' 'acl|list' 'acl|cat' 'acl|help' 'slowlog|get' 'slowlog|len' 'slowlog|reset' 'slowlog|help' 'latency|latest' 'latency|history' 'latency|reset' 'latency|doctor' 'latency|histogram' 'latency|help' 'memory|usage' 'memory|stats' 'memory|doctor' 'memory|malloc-stats' 'memory|purge' 'memory|help' 'function|flush' 'function|list' 'function|help' 'cluster|info' 'cluster|nodes' 'cluster|slots' 'cluster|shards' 'cluster|myid' 'cluster|help'",
			"COMMAND INFO setex psetex getex getdel msetnx getrange substr setrange incrbyfloat lcs expire pexpire expireat pexpireat ttl pttl expiretime pexpiretime persist type rename renamenx copy touch randomkey keys scan multi exec discard watch unwatch 'object|encoding' 'object|freq' 'object|idletime' 'object|refcount' 'object|help'",
			"COMMAND GETKEYS RENAME a b;COMMAND GETKEYS COPY a b;COMMAND GETKEYS MSETNX a 1 b 2;COMMAND GETKEYS LCS a b",
			"COMMAND INFO 'client|id' 'client|getname' 'client|setname' 'client|info' 'client|list' 'client|no-evict' 'client|tracking' 'client|trackinginfo' 'client|getredir' 'client|help' 'command|count' 'command|docs' 'command|getkeys' 'command|info' 'command|list' 'command|help'",
		} {
			real.connect()
			ours := newNode(t)
			same(t, ours, real, []byte("FLUSHALL\r\n"))
			id, _, _ := resp.ParseReply([]byte(real.send([]byte("CLIENT ID\r\n"), 1)))
			ours.client.ID = uint64(id.Int)
			same(t, ours, real, []byte("HELLO "+proto+"\r\n"))
			for _, line := range strings.Split(session, ";") {
				same(t, ours, real, []byte(line+"\r\n"))
			}
		}
	}
}

// TestSameAsRedisAtRandom runs pipelines of random commands over few keys and edge values, in both protocols.
func TestSameAsRedisAtRandom(t *testing.T) {
	real := startRedis(t)
	key := rapid.SampledFrom([]string{"a", "b", "c", "", "\x00\r\n"})
	value := rapid.OneOf(
		rapid.SampledFrom([]string{"", "0", "1", "-1", "01", "+1", " 1", "1.0", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "x\r\ny"}),
		rapid.StringN(0, 40, -1),
		rapid.Custom(func(t *rapid.T) string { return strconv.FormatInt(rapid.Int64().Draw(t, "n"), 10) }),
	)
	option := rapid.SampledFrom([]string{"NX", "xx", "GET", "get", "nx", "bogus", "KEEPTTL"})
	flag := rapid.SampledFrom([]string{"NX", "XX", "gt", "LT", "REPLACE", "PERSIST", "bogus"})
	// Deadlines are absolute, or over: what depends on the very moment is left to other tests.
	over := rapid.SampledFrom([]string{"-1", "0", "x"})
	seconds := rapid.SampledFrom([]string{"4102444800", "4102444801", "1", "-5", "x"})
	name := rapid.SampledFrom([]string{"GET", "SET", "SETNX", "GETSET", "MGET", "MSET", "APPEND", "STRLEN", "INCR", "DECR", "INCRBY", "DECRBY",
		"MSETNX", "GETDEL", "GETEX", "SETEX", "GETRANGE", "SETRANGE", "INCRBYFLOAT", "LCS", "EXPIRE", "EXPIREAT", "EXPIREAT", "EXPIRETIME", "PERSIST",
		"TYPE", "RENAME", "RENAMENX", "COPY", "TOUCH", "EXISTS", "DEL", "UNLINK", "DBSIZE", "FLUSHALL", "PING", "ECHO", "SELECT", "NOSUCH"})
	command := rapid.Custom(func(t *rapid.T) []string {
		args := []string{name.Draw(t, "name")}
		cmd := Lookup([]byte(args[0]))
		if cmd == nil || rapid.IntRange(0, 9).Draw(t, "any arguments") == 0 {
			return append(args, rapid.SliceOfN(value, 0, 4).Draw(t, "arguments")...)
		}
		n := max(cmd.Arity, -cmd.Arity)
		switch cmd.Name {
		case "expire":
			return append(append(args, key.Draw(t, "key"), over.Draw(t, "time")), rapid.SliceOfN(flag, 0, 2).Draw(t, "flags")...)
		case "expireat":
			return append(append(args, key.Draw(t, "key"), seconds.Draw(t, "time")), rapid.SliceOfN(flag, 0, 2).Draw(t, "flags")...)
		case "setex":
			return append(args, key.Draw(t, "key"), over.Draw(t, "time"), value.Draw(t, "value"))
		case "copy":
			return append(append(args, key.Draw(t, "key"), key.Draw(t, "key")), rapid.SliceOfN(flag, 0, 1).Draw(t, "flags")...)
		case "getex":
			return append(append(args, key.Draw(t, "key")), rapid.SampledFrom([][]string{nil, {"PERSIST"}, {"PXAT", "4102444800000"}, {"EXAT", "1"}, {"EXAT", "4102444800"}, {"x"}}).Draw(t, "option")...)
		case "setrange":
			return append(args, key.Draw(t, "key"), strconv.Itoa(rapid.IntRange(-1, 60).Draw(t, "offset")), value.Draw(t, "value"))
		case "getrange":
			return append(args, key.Draw(t, "key"), strconv.Itoa(rapid.IntRange(-50, 50).Draw(t, "from")), strconv.Itoa(rapid.IntRange(-50, 50).Draw(t, "to")))
		}
		if cmd.Arity < 0 && cmd.Name != "set" {
			n += rapid.IntRange(0, 4).Draw(t, "more")
		}
		for i := 1; i < n; i++ {
			if cmd.FirstKey != 0 && (i-cmd.FirstKey)%cmd.Step == 0 && (i <= cmd.LastKey || cmd.LastKey < 0) {
				args = append(args, key.Draw(t, "key"))
			} else {
				args = append(args, value.Draw(t, "value"))
			}
		}
		if cmd.Name == "set" {
			args = append(args, rapid.SliceOfN(option, 0, 3).Draw(t, "options")...)
		}
		return args
	})
	rapid.Check(t, func(rt *rapid.T) {
		ours := newNode(t)
		stream := []byte("FLUSHALL\r\nHELLO " + rapid.SampledFrom([]string{"2", "3"}).Draw(rt, "protocol") + "\r\nCLIENT ID\r\n")
		replies := strings.SplitAfter(real.send(stream, 3), ":")
		ours.client.ID, _ = strconv.ParseUint(strings.TrimSpace(replies[len(replies)-1]), 10, 64)
		ours.send(stream)
		stream = nil
		commands := rapid.SliceOfN(command, 1, 60).Draw(rt, "commands")
		for _, args := range commands {
			stream = resp.AppendCommand(stream, args...)
		}
		got := ours.send(stream)
		want := real.send(stream, len(commands))
		for i := 0; got != want; i++ {
			g, _ := resp.SkipReply([]byte(got))
			w, _ := resp.SkipReply([]byte(want))
			if got[:g] != want[:w] {
				rt.Fatalf("command %d of %q:\nours  %q\nRedis %q", i, commands, got[:g], want[:w])
			}
			got, want = got[g:], want[w:]
		}
	})
}

// TestProtocolErrorsAsRedis: a client that breaks the protocol gets what Redis gives, and loses the connection.
func TestProtocolErrorsAsRedis(t *testing.T) {
	real := startRedis(t)
	for _, stream := range []string{
		"*x\r\n", "*\r\n", "*01\r\n", "*+1\r\n", "*-0\r\n", "*1 \r\n", "*3000000000\r\n", "*99999999999999999999\r\n",
		"*1\r\n:1\r\n", "*1\r\n\r\n", "*1\r\n$-1\r\n", "*1\r\n$x\r\n", "*1\r\n$\r\n", "*1\r\n$01\r\n", "*1\r\n$600000000\r\n", "*1\r\nPING\r\n",
		"PING\r\n*0\r\n*-5\r\n\r\nECHO a\r\n*q\r\nPING\r\n",
		"ECHO \"a\r\n", "ECHO 'a\r\n", "ECHO \"a\"b\r\n", "ECHO 'a'b\r\n", "'\n", "ECHO \"a\\\"\r\n",
		"ECHO a\vb\fc\r\nECHO \v\fa\r\nPING \"a\"\v\r\nECHO a\rb\r\n*x\r\n",
		strings.Repeat("x", 70_000), "*" + strings.Repeat("1", 70_000), "*1\r\n$" + strings.Repeat("1", 70_000),
		"*2\r\n$4\r\nPING\r\n$3\r\nabcXY*1\r\n$4\r\nPING\r\nPING 'a b' \r\nPING \"\\x41\\n\\q\" \n*!\r\n",
	} {
		real.connect()
		real.conn.Write([]byte(stream)) // the server may have closed before the end
		var want strings.Builder
		for {
			raw, err := real.replies.NextRaw()
			if err != nil {
				break
			}
			want.Write(raw)
		}
		ours := newNode(t)
		if got := ours.send([]byte(stream)); got != want.String() || !ours.dropped {
			t.Errorf("%.60q:\nours  %q, connection lost: %v\nRedis %q", stream, got, ours.dropped, want.String())
		}
	}
}
