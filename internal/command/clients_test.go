package command

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"whale/internal/resp"
)

// serve lets client libraries talk to nodes of this test, one for each connection, with one store.
func serve(t *testing.T) (socket string) {
	socket = filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var lock sync.Mutex
	store := newNode(t).tx
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n := newNode(t)
			n.tx = store
			running.Go(func() { n.talk(conn, &lock) })
		}
	})
	t.Cleanup(func() { listener.Close(); running.Wait() })
	return socket
}

func (n *node) talk(conn net.Conn, lock *sync.Mutex) {
	defer conn.Close()
	buf, end := make([]byte, 64<<10), 0
	for !n.client.Quit {
		got, err := conn.Read(buf[end:])
		if err != nil {
			return
		}
		end += got
		start := 0
		n.ctx.W.Buf = n.ctx.W.Buf[:0]
		for {
			args, took, err := n.parser.Next(buf[start:end])
			if err != nil {
				n.t.Errorf("client library sent %q: %v", buf[start:end], err)
				return
			}
			if took == 0 {
				break
			}
			lock.Lock()
			n.execute(args)
			lock.Unlock()
			start += took
		}
		end = copy(buf, buf[start:end])
		conn.Write(n.ctx.W.Buf)
	}
}

func TestGoRedis(t *testing.T) {
	socket := serve(t)
	ctx := context.Background()
	for _, protocol := range []int{2, 3} {
		c := goredis.NewClient(&goredis.Options{Network: "unix", Addr: socket, Protocol: protocol, ClientName: "me", PoolSize: 1, MaxRetries: -1, Password: "any"})
		must := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("RESP%d: %s: %v", protocol, what, err)
			}
		}
		must("PING", c.Ping(ctx).Err())
		must("SET", c.Set(ctx, "a", "1", 0).Err())
		must("SET with expiry", c.Set(ctx, "a", "1", time.Minute).Err())
		if ttl, err := c.TTL(ctx, "a").Result(); ttl != time.Minute {
			t.Errorf("TTL: %v, %v", ttl, err)
		}
		if n, err := c.IncrBy(ctx, "a", 4).Result(); n != 5 {
			t.Errorf("INCRBY: %d, %v", n, err)
		}
		if v, err := c.MGet(ctx, "a", "none").Result(); err != nil || len(v) != 2 || v[0] != "5" || v[1] != nil {
			t.Errorf("MGET: %v, %v", v, err)
		}
		if _, err := c.Get(ctx, "none").Result(); !errors.Is(err, goredis.Nil) {
			t.Errorf("GET of nothing: %v", err)
		}
		info, err := c.ClientInfo(ctx).Result()
		must("CLIENT INFO", err)
		if info.Name != "me" || !strings.HasPrefix(info.LibName, "go-redis(") || info.LibVer != goredis.Version() || info.Resp != protocol {
			t.Errorf("CLIENT INFO: %+v", info)
		}
		commands, err := c.Command(ctx).Result()
		must("COMMAND", err)
		if get := commands["get"]; len(commands) != len(All()) || get == nil || get.Arity != 2 || get.FirstKeyPos != 1 || !get.ReadOnly {
			t.Errorf("COMMAND: %d commands, GET %+v", len(commands), get)
		}
		if keys, err := c.CommandGetKeys(ctx, "MSET", "a", "1", "b", "2").Result(); len(keys) != 2 {
			t.Errorf("COMMAND GETKEYS: %v, %v", keys, err)
		}
		if names, err := c.CommandList(ctx, &goredis.FilterBy{Pattern: "*set"}).Result(); len(names) < 3 {
			t.Errorf("COMMAND LIST: %v, %v", names, err)
		}
		if _, err := c.Info(ctx, "server").Result(); err != nil {
			t.Errorf("INFO: %v", err)
		}
		pipe := c.Pipeline()
		size := pipe.DBSize(ctx)
		pipe.FlushAll(ctx)
		_, err = pipe.Exec(ctx)
		must("pipeline", err)
		if size.Val() != 1 {
			t.Errorf("DBSIZE: %d", size.Val())
		}
		must("close", c.Close())
	}
}

func TestRueidis(t *testing.T) {
	socket := serve(t)
	ctx := context.Background()
	for _, resp2 := range []bool{false, true} {
		options := rueidis.ClientOption{InitAddress: []string{"unix"}, DisableCache: true, AlwaysRESP2: resp2, ForceSingleClient: true, PipelineMultiplex: -1,
			ClientName: "me", ClientNoTouch: true, ClientNoEvict: true, Standalone: rueidis.StandaloneOption{EnableRedirect: false},
			DialCtxFn: func(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
				return d.DialContext(ctx, "unix", socket)
			}}
		c, err := rueidis.NewClient(options)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Do(ctx, c.B().Set().Key("a").Value("1").Build()).Error(); err != nil {
			t.Error(err)
		}
		if old, err := c.Do(ctx, c.B().Set().Key("a").Value("2").Get().Build()).ToString(); old != "1" {
			t.Errorf("SET GET: %q, %v", old, err)
		}
		if err := c.Do(ctx, c.B().Get().Key("none").Build()).Error(); !rueidis.IsRedisNil(err) {
			t.Errorf("GET of nothing: %v", err)
		}
		if n, err := c.Do(ctx, c.B().Del().Key("a", "b").Build()).AsInt64(); n != 1 {
			t.Errorf("DEL: %d, %v", n, err)
		}
		line, err := c.Do(ctx, c.B().ClientInfo().Build()).ToString()
		if err != nil || !strings.Contains(line, "name=me") || !strings.Contains(line, "lib-name=rueidis") {
			t.Errorf("CLIENT INFO: %q, %v", line, err)
		}
		c.Close()

		// With its cache on, rueidis says that the server has none.
		options.DisableCache, options.AlwaysRESP2 = false, false
		if _, err := rueidis.NewClient(options); !errors.Is(err, rueidis.ErrNoCache) || !strings.Contains(err.Error(), "TRACKING ON is not supported") {
			t.Errorf("client-side cache: %v", err)
		}
	}
}

// TestClientListWhileOthersChange is for the race detector: a connection is described while its own goroutine changes it.
func TestClientListWhileOthersChange(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.others = []*Client{&b.client}
	var both sync.WaitGroup
	both.Go(func() {
		for range 200 {
			b.do("CLIENT", "SETNAME", "you")
			b.do("CLIENT", "SETINFO", "LIB-NAME", "lib")
			b.do("HELLO", "3", "SETNAME", "me")
		}
	})
	both.Go(func() {
		for range 200 {
			if r, _, err := resp.ParseReply([]byte(a.do("CLIENT", "LIST"))); err != nil || strings.Count(string(r.Str), "\n") != 2 {
				t.Errorf("%q, %v", r.Str, err)
			}
		}
	})
	both.Wait()
}

// TestRedisTools: Redis's own tools find what they ask for.
func TestRedisTools(t *testing.T) {
	socket := serve(t)
	for _, c := range []struct {
		name, input string
		args, want  []string
	}{
		{"redis-cli", "", []string{"-3", "SET", "a", "1"}, []string{"OK"}},
		{"redis-cli", "SET a 1\nINCR a\nGET none\nHELP GET\nCLIENT NO-EVICT\nINFO server\n", []string{"--no-raw"},
			[]string{"OK", "(integer) 2", "(nil)", "wrong number of arguments for 'client|no-evict' command", "# Server"}},
		{"redis-cli", "", []string{"--json", "COMMAND", "DOCS", "get"}, []string{`"summary":"Returns the value of a key"`}},
		{"redis-benchmark", "", []string{"-n", "300", "-c", "5", "-P", "4", "-q", "-t", "ping,set,get,incr,mset"}, []string{"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"}},
	} {
		binary, err := exec.LookPath(c.name)
		if err != nil {
			t.Skip("no " + c.name + " on the PATH: install redis-tools")
		}
		tool := exec.Command(binary, append([]string{"-s", socket}, c.args...)...)
		tool.Stdin = strings.NewReader(c.input)
		out, err := tool.CombinedOutput()
		for _, want := range c.want {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s %q: %v, no %q in\n%s", c.name, c.args, err, want, out)
			}
		}
	}
}
