// Package handshake is how two endpoints of any provider come to trust each other on a fresh byte stream: a mutual
// proof that both hold the cluster's secret, then framed blobs (hello, answer, refusal).
//
// The proof is a challenge and response with HMAC (RFC 2104) over SHA-256:
//
//	dialing side                               accepting side
//	magic 8, nonce d 32                  --->
//	                                     <---  magic 8, nonce a 32, HMAC(secret, "accept" d a) 32
//	HMAC(secret, "dial" d a) 32          --->
//
// A fresh nonce from each side makes a recorded proof worthless (replay); the role inside the HMAC makes the proof of
// one role worthless in the other (reflection). A dialing side that finds the other's proof wrong answers with zeros
// instead of its own proof, so that an impostor gets nothing to search a weak secret with, and the honest side of a
// mere mix-up of secrets learns at once what is wrong. The proof does not protect what follows it: a provider whose
// stream others can tamper with needs TLS below.
//
// Every read is of an exact length that is bounded before memory is made for it; nothing is read ahead, so a provider
// may send ancillary data behind a blob. Deadlines are the caller's: see [Limit].
package handshake

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"whale/fabric"
)

const (
	// MinSecret is the length of the shortest secret that is accepted, in bytes.
	MinSecret = 16
	// MaxBlob is the length of the longest hello or answer that a caller of a provider may send, in bytes.
	MaxBlob = 4096

	magic     = "whalefb1" // the digit is the version of this protocol
	nonceSize = 32
	proofSize = sha256.Size
)

// CheckSecret says whether the secret can be used at all.
func CheckSecret(secret []byte) error {
	if len(secret) < MinSecret {
		return fmt.Errorf("fabric: the cluster secret has %d bytes; at least %d are needed, better 32 random ones", len(secret), MinSecret)
	}
	return nil
}

// Dial proves the secret to the accepting side and asks for its proof. An error is [fabric.ErrAuth] when the other
// side holds another secret.
func Dial(rw io.ReadWriter, secret []byte) error {
	var hello [len(magic) + nonceSize]byte
	copy(hello[:], magic)
	mine := hello[len(magic):]
	if _, err := rand.Read(mine); err != nil {
		return err
	}
	if _, err := rw.Write(hello[:]); err != nil {
		return fmt.Errorf("handshake: sending the challenge: %w", err)
	}
	var challenge [len(magic) + nonceSize + proofSize]byte
	if err := readMagic(rw, challenge[:]); err != nil {
		return err
	}
	theirs := challenge[len(magic) : len(magic)+nonceSize]
	want := proof(secret, "accept", mine, theirs)
	if !hmac.Equal(challenge[len(magic)+nonceSize:], want[:]) {
		var none [proofSize]byte
		rw.Write(none[:]) // a courtesy to the other side; the outcome here is decided
		return fabric.ErrAuth
	}
	answer := proof(secret, "dial", mine, theirs)
	if _, err := rw.Write(answer[:]); err != nil {
		return fmt.Errorf("handshake: sending the proof: %w", err)
	}
	return nil
}

// Accept is the other half of [Dial].
func Accept(rw io.ReadWriter, secret []byte) error {
	var hello [len(magic) + nonceSize]byte
	if err := readMagic(rw, hello[:]); err != nil {
		return err
	}
	theirs := hello[len(magic):]
	var challenge [len(magic) + nonceSize + proofSize]byte
	copy(challenge[:], magic)
	mine := challenge[len(magic) : len(magic)+nonceSize]
	if _, err := rand.Read(mine); err != nil {
		return err
	}
	answer := proof(secret, "accept", theirs, mine)
	copy(challenge[len(magic)+nonceSize:], answer[:])
	if _, err := rw.Write(challenge[:]); err != nil {
		return fmt.Errorf("handshake: sending the challenge: %w", err)
	}
	var got [proofSize]byte
	if _, err := io.ReadFull(rw, got[:]); err != nil {
		return fmt.Errorf("handshake: reading the proof: %w", err)
	}
	want := proof(secret, "dial", theirs, mine)
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return fabric.ErrAuth
	}
	return nil
}

// readMagic fills b, whose first bytes must be the magic. A stranger is told from its first bytes, before more is
// waited for.
func readMagic(r io.Reader, b []byte) error {
	if _, err := io.ReadFull(r, b[:len(magic)]); err != nil {
		return fmt.Errorf("handshake: reading the challenge: %w", err)
	}
	if string(b[:len(magic)]) != magic {
		return fmt.Errorf("handshake: the other side starts with %q, expected %q: it is no endpoint of this version", b[:len(magic)], magic)
	}
	if _, err := io.ReadFull(r, b[len(magic):]); err != nil {
		return fmt.Errorf("handshake: reading the challenge: %w", err)
	}
	return nil
}

// proof is HMAC(secret, role 0 dialing-nonce accepting-nonce). The nonces have a fixed length and the role ends with
// a zero byte, so no two inputs share an encoding.
func proof(secret []byte, role string, dialing, accepting []byte) (sum [proofSize]byte) {
	h := hmac.New(sha256.New, secret)
	io.WriteString(h, magic)
	io.WriteString(h, role)
	h.Write([]byte{0})
	h.Write(dialing)
	h.Write(accepting)
	h.Sum(sum[:0])
	return sum
}

// Limit makes every read and write of c fail once limit has passed (0: never) or ctx has ended, until the returned
// function is called. That clears the deadline and returns the error of ctx.
func Limit(ctx context.Context, c net.Conn, limit time.Duration) (done func() error) {
	if limit > 0 {
		c.SetDeadline(time.Now().Add(limit))
	}
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.SetDeadline(time.Unix(1, 0))
		close(expired)
	})
	return func() error {
		if !stop() {
			<-expired // else the deadline might come late, and hit what the caller does next
		}
		c.SetDeadline(time.Time{})
		return ctx.Err()
	}
}

// ErrRefused is what a [RefusedError] is.
var ErrRefused = errors.New("fabric: connection refused by the peer")

// RefusedError carries the text with which the accepting side refused.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string   { return ErrRefused.Error() + ": " + e.Text }
func (e *RefusedError) Is(t error) bool { return t == ErrRefused }
