"""Say a text with an avatar and print the path of the clip.

    warmtalk up                                              # in another terminal
    warmtalk avatar create anna anna.jpg
    python examples/speak.py "Hello. How are you?" --session s1 --avatar anna

With an API key, set WARMTALK_API_KEY as for the services.
"""

from __future__ import annotations

import argparse
import os
import sys

import grpc

from warmtalk.v1 import session_pb2 as pb
from warmtalk.v1.session_pb2_grpc import SessionServiceStub


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--session", default="s1", help="session id (default: %(default)s)")
    parser.add_argument("--avatar", default="", help="avatar id; needed for a new session")
    parser.add_argument("--address", default="127.0.0.1:50053", help="session service (default: %(default)s)")
    args = parser.parse_args()
    metadata = [("x-internal-api-key", key)] if (key := os.environ.get("WARMTALK_API_KEY")) else []
    with grpc.insecure_channel(args.address) as channel:
        stub = SessionServiceStub(channel)
        try:
            if args.avatar:  # the same request again returns the existing session
                request = pb.CreateSessionRequest(session_id=args.session, avatar_id=args.avatar)
                stub.CreateSession(request, metadata=metadata)
            for event in stub.Speak(pb.SpeakRequest(session_id=args.session, text=args.text), metadata=metadata):
                kind = event.WhichOneof("event")
                if kind == "started":
                    print(f"first frame after {event.started.delay.ToMilliseconds()} ms")
                elif kind == "clip_ready":
                    print(f"clip          {event.clip_ready.clip.uri}")
                elif kind == "conversation_updated":
                    print(f"conversation  {event.conversation_updated.uri}")
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
