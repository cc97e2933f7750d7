package handshake

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"whale/fabric"
)

var (
	secret  = []byte("0123456789abcdef0123456789abcdef")
	another = []byte("0123456789abcdef0123456789abcdeX")
)

// pair is a stream with a limit, so that a faulty handshake fails instead of hanging.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	a, b = net.Pipe()
	deadline := time.Now().Add(5 * time.Second)
	a.SetDeadline(deadline)
	b.SetDeadline(deadline)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func both(t *testing.T, dialing, accepting []byte) (dial, accept error) {
	t.Helper()
	a, b := pair(t)
	result := make(chan error, 1)
	go func() { result <- Accept(b, accepting) }()
	dial = Dial(a, dialing)
	return dial, <-result
}

func TestBothHoldTheSecret(t *testing.T) {
	if dial, accept := both(t, secret, secret); dial != nil || accept != nil {
		t.Fatalf("dial: %v, accept: %v", dial, accept)
	}
}

func TestWrongSecretIsErrAuthOnBothSides(t *testing.T) {
	dial, accept := both(t, secret, another)
	if !errors.Is(dial, fabric.ErrAuth) || !errors.Is(accept, fabric.ErrAuth) {
		t.Fatalf("dial: %v, accept: %v, want ErrAuth from both", dial, accept)
	}
}

// tap records what the honest party on its stream sent.
type tap struct {
	io.ReadWriter
	sent bytes.Buffer
}

func (r *tap) Write(b []byte) (int, error) { r.sent.Write(b); return r.ReadWriter.Write(b) }

// script plays recorded bytes to the party under test and swallows what it sends.
type script struct{ in *bytes.Reader }

func (s *script) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error) { return len(b), nil }

func TestReplayedProofIsRefused(t *testing.T) {
	a, b := pair(t)
	dialing, accepting := &tap{ReadWriter: a}, &tap{ReadWriter: b}
	result := make(chan error, 1)
	go func() { result <- Accept(accepting, secret) }()
	if err := Dial(dialing, secret); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if err := Accept(&script{bytes.NewReader(dialing.sent.Bytes())}, secret); !errors.Is(err, fabric.ErrAuth) {
		t.Errorf("accept of a replayed dial: %v, want ErrAuth", err)
	}
	if err := Dial(&script{bytes.NewReader(accepting.sent.Bytes())}, secret); !errors.Is(err, fabric.ErrAuth) {
		t.Errorf("dial to a replayed accept: %v, want ErrAuth", err)
	}
}

// mirror answers a dialing side with its own challenge, and proves it with the accepting side's own proof.
type mirror struct {
	proof func(challenge []byte) []byte
	out   bytes.Buffer
}

func (m *mirror) Write(b []byte) (int, error) {
	if len(b) == len(magic)+nonceSize {
		m.out.Write(b)
		m.out.Write(m.proof(b[len(magic):]))
	}
	return len(b), nil
}
func (m *mirror) Read(b []byte) (int, error) { return m.out.Read(b) }

func TestReflectedProofIsRefused(t *testing.T) {
	// The impostor has an oracle for the other role, which is what a second connection to the victim would give it.
	oracle := &mirror{proof: func(nonce []byte) []byte {
		p := proof(secret, "dial", nonce, nonce)
		return p[:]
	}}
	if err := Dial(oracle, secret); !errors.Is(err, fabric.ErrAuth) {
		t.Fatalf("dial to a mirror: %v, want ErrAuth", err)
	}
	// Shown able to pass: with the right role the same impostor would be believed.
	right := &mirror{proof: func(nonce []byte) []byte {
		p := proof(secret, "accept", nonce, nonce)
		return p[:]
	}}
	if err := Dial(right, secret); err != nil {
		t.Fatalf("dial to a holder of the secret: %v", err)
	}
}

func TestProofCoversBothNoncesAndRole(t *testing.T) {
	d, a := make([]byte, nonceSize), make([]byte, nonceSize)
	base := proof(secret, "dial", d, a)
	d[3] = 1
	if proof(secret, "dial", d, a) == base {
		t.Error("dialing nonce is not covered")
	}
	d[3], a[31] = 0, 1
	if proof(secret, "dial", d, a) == base {
		t.Error("accepting nonce is not covered")
	}
	a[31] = 0
	if proof(secret, "accept", d, a) == base {
		t.Error("role is not covered")
	}
	if proof(another, "dial", d, a) == base {
		t.Error("secret is not covered")
	}
}

func TestAnImpostorGetsNoProof(t *testing.T) {
	impostor := &mirror{proof: func([]byte) []byte { return make([]byte, proofSize) }}
	victim := &tap{ReadWriter: impostor}
	if err := Dial(victim, secret); !errors.Is(err, fabric.ErrAuth) {
		t.Fatalf("dial: %v, want ErrAuth", err)
	}
	if got := victim.sent.Bytes()[len(magic)+nonceSize:]; !bytes.Equal(got, make([]byte, proofSize)) {
		t.Fatalf("the victim sent %x after the wrong proof, want zeros", got)
	}
}

func TestStrangerIsNamed(t *testing.T) {
	for _, f := range []func(io.ReadWriter, []byte) error{Dial, Accept} {
		err := f(&script{bytes.NewReader([]byte("GET / HTTP/1.1\r\n\r\n"))}, secret)
		if err == nil || errors.Is(err, fabric.ErrAuth) || !strings.Contains(err.Error(), "GET / HT") {
			t.Errorf("error %v, want one that shows the first bytes", err)
		}
	}
}

func TestShortSecret(t *testing.T) {
	if CheckSecret(make([]byte, MinSecret-1)) == nil || CheckSecret(make([]byte, MinSecret)) != nil {
		t.Fatal("the limit is off")
	}
}

func TestBlobs(t *testing.T) {
	for _, n := range []int{0, 1, MaxBlob, maxFrame} {
		var b bytes.Buffer
		sent := bytes.Repeat([]byte{7}, n)
		if err := WriteBlob(&b, sent); err != nil {
			t.Fatal(err)
		}
		b.WriteString("next")
		got, err := ReadBlob(&b, n)
		if err != nil || !bytes.Equal(got, sent) || b.String() != "next" {
			t.Fatalf("%d bytes: got %d, %v, rest %q", n, len(got), err, b.String())
		}
	}
	var b bytes.Buffer
	if err := WriteBlob(&b, make([]byte, maxFrame+1)); err == nil || b.Len() != 0 {
		t.Error("a blob that does not fit its length field was sent")
	}
	WriteBlob(&b, make([]byte, 11))
	if _, err := ReadBlob(&b, 10); err == nil {
		t.Error("a blob above the reader's bound was read")
	}
}

func TestRefusalCarriesText(t *testing.T) {
	var b bytes.Buffer
	WriteRefusal(&b, errors.New("shard 3 is not here\x1b[2J"))
	_, err := ReadBlob(&b, 0)
	var refused *RefusedError
	if !errors.As(err, &refused) || !errors.Is(err, ErrRefused) || refused.Text != "shard 3 is not here?[2J" {
		t.Fatalf("got %#v", err)
	}
	WriteRefusal(&b, errors.New(strings.Repeat("x", 5000)))
	if _, err = ReadBlob(&b, 0); !errors.As(err, &refused) || len(refused.Text) != maxRefusal {
		t.Fatalf("a long text was not cut: %v", err)
	}
}

func TestLimit(t *testing.T) {
	read := func(ctx context.Context, limit time.Duration) (read, limited error) {
		a, _ := net.Pipe()
		defer a.Close()
		done := Limit(ctx, a, limit)
		_, read = a.Read(make([]byte, 1))
		return read, done()
	}
	if err, ctxErr := read(t.Context(), time.Millisecond); err == nil || ctxErr != nil {
		t.Errorf("limit: %v, %v", err, ctxErr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if err, ctxErr := read(ctx, 0); err == nil || !errors.Is(ctxErr, context.Canceled) {
		t.Errorf("cancel: %v, %v", err, ctxErr)
	}
}

// FuzzAccept: whatever a stranger sends, the accepting side neither panics nor believes it.
func FuzzAccept(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(magic))
	f.Add(append([]byte(magic), make([]byte, nonceSize+proofSize)...))
	f.Add(append([]byte("whalefb9"), make([]byte, nonceSize+proofSize)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		if Accept(&script{bytes.NewReader(in)}, secret) == nil {
			t.Fatal("a stranger was believed")
		}
		if Dial(&script{bytes.NewReader(in)}, secret) == nil {
			t.Fatal("an impostor was believed")
		}
	})
}

// FuzzReadBlob: no panic, no more than the bound, nothing read ahead; what was read is what would be written.
func FuzzReadBlob(f *testing.F) {
	f.Add([]byte{1, 0, 3, 0, 'a', 'b', 'c', 'd'}, 10)
	f.Add([]byte{2, 0, 2, 0, 'n', 'o'}, 0)
	f.Add([]byte{1, 0, 0xff, 0xff}, 10)
	f.Add([]byte{9, 9}, 4)
	f.Fuzz(func(t *testing.T, in []byte, max int) {
		max = min(max, maxFrame)
		r := bytes.NewReader(in)
		b, err := ReadBlob(r, max)
		if err != nil {
			return
		}
		if len(b) > max {
			t.Fatalf("%d bytes above the bound %d", len(b), max)
		}
		var again bytes.Buffer
		WriteBlob(&again, b)
		if consumed := in[:len(in)-r.Len()]; !bytes.Equal(consumed, again.Bytes()) {
			t.Fatalf("read %x, which would be written as %x", consumed, again.Bytes())
		}
	})
}
