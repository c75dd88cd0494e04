"""An answer by HTTP/1, cut out of the bytes that a provider sends, by llhttp (`httptools`)."""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from urllib3.exceptions import ProtocolError

# Of what is no content: the head, and what stands between and behind chunks. Far more than is usual.
MOST_BYTES_WITHOUT_CONTENT = 2**17
NEVER_WITH_BODY = (204, 304)


class BadAnswer(ProtocolError):
    """What came is no answer, or not the whole of one."""


class HttpAnswer:
    """One answer. `status`, `reason` and `headers` are known once it `is_begun`; `is_whole` says that its end
    has come, and `keeps_connection` then that the connection can serve again: the provider leaves it open,
    and has sent nothing behind the answer."""

    def __init__(self) -> None:
        self.status = 0
        self.reason = ""
        self.headers: list[tuple[str, str]] = []
        self.is_begun = False
        self.is_whole = False
        self.keeps_connection = False
        self._content: list[bytes] = []
        self._bytes_without_content = 0
        parser = HttpResponseParser(self)
        # As lenient as Python's own client: what is odd in a header is looked at before it is passed on.
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._parser: HttpResponseParser | None = parser

    def feed(self, data: bytes) -> None:
        """Take the next bytes from the connection.

        :raises BadAnswer: for what no answer looks like
        """
        if self._parser is None:
            raise BadAnswer("The answer is over.")
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.is_whole:
                raise BadAnswer("The answer is no HTTP.") from error
            self.keeps_connection = False
        if self.is_whole:
            self.let_go()
        elif self._content:
            self._bytes_without_content = 0
        else:
            self._bytes_without_content += len(data)
            if self._bytes_without_content > MOST_BYTES_WITHOUT_CONTENT:
                raise BadAnswer("The answer's head is too large.")

    def end(self) -> None:
        """Take note that the provider has closed the connection.

        :raises BadAnswer: where that is not how this answer ends
        """
        if not self.is_begun or not self._lasts_until_closed():
            raise BadAnswer("The connection was closed within the answer.")
        self.is_whole = True
        self.let_go()

    def take(self, amount: int | None) -> bytes:
        """So many bytes of the content that has come, or fewer where no more has; all of it for None."""
        if not self._content:
            return b""
        content = self._content[0] if len(self._content) == 1 else b"".join(self._content)
        self._content.clear()
        if amount is not None and len(content) > amount:
            self._content.append(content[amount:])
            return content[:amount]
        return content

    @property
    def has_content(self) -> bool:
        """Whether there is any to be taken."""
        return bool(self._content)

    def let_go(self) -> None:
        """Take nothing more. The parser and its answer hold each other until then."""
        self._parser = None

    def header(self, name: str) -> str:
        """The first header of this name, given in lower case; empty where there is none."""
        for known, value in self.headers:
            if len(known) == len(name) and known.lower() == name:
                return value
        return ""

    def _lasts_until_closed(self) -> bool:
        """Whether it says neither how long it is nor that it comes in chunks."""
        names = [name.lower() for name, _ in self.headers]
        if "transfer-encoding" in names:
            return (
                not self.headers[-1 - names[::-1].index("transfer-encoding")][1].lower().endswith("chunked")
            )
        return "content-length" not in names

    # What the parser calls. Behind the end of an answer it begins to read another one, which is none of ours.

    def on_message_begin(self) -> None:
        if self.is_whole:
            self.keeps_connection = False

    def on_status(self, reason: bytes) -> None:
        if not self.is_begun:
            self.reason += reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_begun:  # else a trailer
            self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self.is_begun or self._parser is None:
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return
        self.is_begun = True
        if self.status in NEVER_WITH_BODY:
            self.is_whole = True
        else:
            self.keeps_connection = self._parser.should_keep_alive()

    def on_body(self, content: bytes) -> None:
        if not self.is_whole:
            self._content.append(content)

    def on_message_complete(self) -> None:
        if self.is_begun:
            self.is_whole = True
        else:  # only "Continue" or the like: the answer follows
            self.headers.clear()
            self.reason = ""
