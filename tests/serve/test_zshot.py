import time
from selenium.webdriver.common.by import By
from tests.serve.test_page import page, browser, search
def test_shot(page, endpoint):
    page.set_window_size(900,1000)
    search(page,"A honey bee tells her sisters where food is",5)
    for mode in ("light","dark"):
        page.execute_cdp_cmd("Emulation.setEmulatedMedia",{"features":[{"name":"prefers-color-scheme","value":mode}]})
        page.save_screenshot(f"/tmp/shot-{mode}.png")
    page.find_element(By.CSS_SELECTOR,"#languages label").click()
    search(page," ",0)
    page.save_screenshot("/tmp/shot-error.png")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia",{"features":[]})
    page.set_window_size(420,700)
    page.get(endpoint.url+"/?q=bee")
    time.sleep(1)
    page.save_screenshot("/tmp/shot-small.png")
