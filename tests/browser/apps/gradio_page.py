"""A Gradio page: turns a word around, in pieces."""
import gradio as gr


def turn(word):
    for n in range(1, len(word) + 1):
        yield word[::-1][:n]


gr.Interface(turn, "text", gr.Textbox(label="Turned"), flagging_mode="never").launch(server_name="127.0.0.1", server_port=7860)
