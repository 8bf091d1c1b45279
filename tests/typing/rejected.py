"""Uses of the public names that type checkers must reject, each on the line that ends in ``# error``."""

import llmspan

llmspan.instrument(sqlitepath="x")  # error
llmspan.instrument(exit_timeout=[])  # error
llmspan.instrument(backends=1)  # error
llmspan.instrument(redact=5)  # error
llmspan.instrument(summary={})  # error
llmspan.instrument("sqlite")  # error
llmspan.Reader.from_env(sqlitepath="x")  # error
llmspan.Reader.from_env(queue_max_items=object())  # error
llmspan.AsyncReader.from_env(postgres="host=db")  # error
llmspan.SQLiteSpanExporter(path="x.db")  # error
llmspan.SocketSpanExporter(socket=7)  # error
llmspan.Filters(status=3)  # error
llmspan.Filters(stat="ok")  # error
llmspan.Filters(conditions="tokens>1")  # error
llmspan.Filters.parse(7)  # error
llmspan.record()  # error
llmspan.record(provider=5)  # error
llmspan.context(step=1)  # error
llmspan.delete()  # error
llmspan.delete("user_id=ann")  # error
llmspan.delete(llmspan.Filters(), user_id="ann")  # error
llmspan.delete_async(llmspan.Filters(), progress=1)  # error
llmspan.annotate("call", 1)  # error
llmspan.annotate(record_id="call", score="good")  # error
llmspan.cost_of("id")  # error
print(llmspan.no_such_name)  # error
llmspan.instrument(content="ful")  # error
llmspan.instrument(capture_payloads="ful")  # error
