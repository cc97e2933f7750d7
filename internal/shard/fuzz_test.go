package shard

import (
	"testing"

	"whale/fabric/simfab"
	"whale/internal/command"
	"whale/internal/replication/whale"
	"whale/internal/resp"
)

// FuzzForwarded gives P requests that no backup of this version would send: each is answered, or refused as malformed.
func FuzzForwarded(f *testing.F) {
	request := func(args []string, tail []byte) []byte {
		var list [][]byte
		for _, a := range args {
			list = append(list, []byte(a))
		}
		b := le.AppendUint64(nil, 7)       // id
		b = le.AppendUint32(b, 1000)       // time left
		b = le.AppendUint64(b, 0)          // last write
		b = appendList(append(b, 2), list) // protocol, arguments
		return append(b, tail...)
	}
	client := &command.Client{}
	client.Watch([][]byte{[]byte("k")}).Stamp = 3
	var w resp.Writer
	command.Lookup([]byte("multi")).Run(&command.Ctx{Client: client, W: &w})
	for _, args := range [][][]byte{{[]byte("SET"), []byte("k"), []byte("v")}, {[]byte("DBSIZE")}, {[]byte("wait"), []byte("1"), []byte("0")}} {
		client.Queue(command.Lookup(args[0]), args, func() *resp.Writer { return &w })
	}
	t, text := client.Exec()
	if text != "" {
		f.Fatal(text)
	}
	exec := request([]string{"exec"}, appendMulti(nil, t))
	f.Add(exec)
	f.Add(exec[:len(exec)-1])
	f.Add(append(exec, 0))
	f.Add(request([]string{"exec"}, nil))
	f.Add(request([]string{"exec"}, appendMulti(nil, &command.Transaction{Calls: []command.Call{{Cmd: command.Lookup([]byte("exec")), Args: [][]byte{[]byte("exec")}}}})))
	f.Add(request([]string{"exec"}, []byte("\x00\x00\x00\x00\xff\xff\xff\xff")))
	f.Add(request([]string{"watch", "k"}, nil))
	f.Add(request([]string{"get", "k"}, nil))
	f.Add(request(nil, nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := newSimRig(t, 2, whale.FaultNone, FaultNone, simfab.Options{})
		s.form()
		p := s.members[0].e
		err := p.message(1, msgRequest, body)
		s.net.Auto(true)
		s.step()
		if n := p.queue.len() + p.gated.len() + len(p.waits); err != nil && n > 0 {
			t.Errorf("%d requests wait although the message was refused: %v", n, err)
		}
		if !p.Status().Serving {
			t.Errorf("a request ended the service: %v", p.Status().Err)
		}
	})
}
